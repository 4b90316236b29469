"""Methods that start from a run on another corpus: each plans its source and reaches a cell."""

from __future__ import annotations

import json

import pytest
import yaml

from fixtures.project import Project

pytestmark = pytest.mark.slow

SOURCE = "Anna B-PER\nsaw O\nNew B-LOC\nYork I-LOC\n\nBob B-PER\nlikes O\nParis B-LOC\n"
TARGET = "Parking O\nnear O\nMain B-STREET\nStreet I-STREET\n\nRefund O\nfor O\nAnna B-NAME\n"
QUICK = {
    "lc-bert": {"epochs": 1},
    "lc-bart": {"epochs": 1},
    "neigh-tag-source": {"adapt": {"neighbours": 3, "epochs": 1}},
    "mp-nsp-source": {"adapt": {"episodes": 2, "epochs": 1, "shape": {"ways": 2, "shots": 1, "query": 1}}},
    "mp-nsp-conll-source": {"adapt": {"episodes": 2, "epochs": 1, "shape": {"ways": 2, "shots": 1, "query": 1}}},
    "example-ner-source": {"adapt": {"episodes": 4, "supports": 2, "batch_size": 2}},
}
TRANSFERS = {
    "lc-bert-transfer": ("lc-bert", "tiny-bert"),
    "lc-bart-transfer": ("lc-bart", "tiny-bart"),
    "neigh-tag": ("neigh-tag-source", "tiny-bert"),
    "mp-nsp": ("mp-nsp-source", "tiny-bert"),
    "mp-nsp-conll": ("mp-nsp-conll-source", "tiny-bert"),
    "example-ner": ("example-ner-source", "tiny-bert"),
}
RUN = ("lc-bart-transfer", "mp-nsp-conll", "example-ner")
"""One of each way to start from a source, mp-nsp-conll's from another one."""


def add_dataset(project: Project, name: str, text: str, types: tuple[str, ...]) -> None:
    for split in ("train", "test"):
        (project.root / f"{name}.{split}").write_text("\n".join([text] * 6))
    value = {
        "title": name, "domain": "none", "licence": "none", "reader": "columns", "options": {"separator": "space"},
        "files": {s: {"sources": [{"path": f"{project.root}/{name}.{s}"}]} for s in ("train", "test")},
        "splits": {s: {"files": [s]} for s in ("train", "test")},
        "types": {t: {"words": t.lower(), "definition": t} for t in types},
    }  # fmt: skip
    (project.root / f"config/datasets/{name}.yaml").write_text(yaml.safe_dump(value, sort_keys=False))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A scratch copy where the source corpora of the shipped methods are a handful of sentences."""
    project = Project.make(tmp_path_factory.mktemp("transfer") / "project")
    add_dataset(project, "conll2003", SOURCE, ("PER", "LOC"))
    add_dataset(project, "fewnerd", SOURCE, ("PER", "LOC"))
    add_dataset(project, "tickets", TARGET, ("STREET", "NAME"))
    config = project.root / "config" / "config.yaml"
    overrides = {method: {"train": train} for method, train in QUICK.items()}
    overrides |= {m: {"train": QUICK[s]} for m, (s, _) in TRANSFERS.items() if m.endswith("-transfer")}
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "overrides": overrides}))
    return project


def cell(method: str) -> str:
    return f"results/cells/tickets/5-shot/{method}/{TRANSFERS[method][1]}.json"


def test_a_source_is_trained_and_not_asked(project: Project) -> None:
    planned = project.planned(*map(cell, TRANSFERS))
    sources, targets = ({f"{s}.1-1" for s, _ in TRANSFERS.values()}, {f"{m}.1-3" for m in TRANSFERS})
    assert {what for rule, what in planned if rule == "train"} == sources | targets
    assert {what for rule, what in planned if rule == "decode"} == targets


def test_a_transfer_reaches_a_cell(project: Project) -> None:
    project.run(*map(cell, RUN))
    for method in RUN:
        source, backbone = TRANSFERS[method]
        made = json.loads((project.root / cell(method)).read_text())
        assert made["spec"]["init"].split("/")[2] == source
        assert made["draws"] == [1, 2, 3]
        trained = project.root / "results/runs" / made["spec"]["init"] / "1-1/model/1"
        own = project.root / f"results/runs/tickets/5-shot/{method}/{backbone}/1-3/model"
        kept = [(own / draw / "encoder.safetensors").read_bytes() for draw in ("1", "2", "3")]
        if method.endswith("-transfer"):
            assert len(set(kept)) == 3
        else:
            assert set(kept) == {(trained / "encoder.safetensors").read_bytes()}, "nothing is trained on the target"
    assert project.planned(*map(cell, RUN)) == set(), "a second call has nothing to do"
