"""Official episode files: sentences and samples fit together, both releases, both names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fewtable.corpus import Entity, Sample, Task, build_tasks, read_samples, write_sentences
from fewtable.data.episodes import has_episodes, official_samples
from fewtable.data.normalise import normalise
from fewtable.errors import ConfigError
from fewtable.files import sha256_file
from fewtable.specs import DatasetSpec

DIGESTS = {"test": "0" * 64}
TYPE = {"words": "w", "definition": "d"}


def dataset(reader: str, file: str, types: list[str], **keys: Any) -> DatasetSpec:
    value = {
        "title": "T",
        "domain": "wiki",
        "licence": "none",
        "reader": reader,
        "files": {file: {}},
        "splits": {"test": {"files": [file]}},
        "types": dict.fromkeys(types, TYPE),
    }
    return DatasetSpec.model_validate(value | keys)


def tasks(spec: DatasetSpec, path: Path, **keys: Any) -> tuple[list[Sample], list[Task]]:
    raw = {path.name: path}
    data = path.parent / "test.jsonl"
    write_sentences(data, normalise("d", spec, "test", raw))
    samples = official_samples("d", spec, "test", raw, data_sha256=DIGESTS, **keys)
    return samples, build_tasks(samples, {"test": data})


def part(*rows: str) -> dict[str, list[list[str]]]:
    """'word:tag word:tag' a sentence, in Few-NERD's keys."""
    cells = [[cell.rsplit(":", 1) for cell in row.split()] for row in rows]
    return {"word": [[w for w, _ in row] for row in cells], "label": [[t for _, t in row] for row in cells]}


def few(folder: Path, name: str = "test_2_1.jsonl") -> Path:
    shared = "a:b-x/y b:b-x/y c:O"
    episodes = [
        {"types": ["p-q", "b-x/y"], "support": part(shared, "d:p-q"), "query": part("e:p-q f:b-x/y")},
        {
            "types": ["b-x/y", "p-q"],
            "support": part("e:p-q f:b-x/y", "g:p-q h:O i:p-q j:O k:p-q"),
            "query": part(shared),
        },
    ]
    path = folder / name
    path.write_text("".join(json.dumps(e) + "\n" for e in episodes))
    return path


def test_fewnerd_sentences_are_stored_once_and_types_keep_their_order(tmp_path: Path) -> None:
    spec = dataset("fewnerd-episodes", "test_2_1.jsonl", ["b-x/y", "p-q"])
    samples, [first, second] = tasks(spec, few(tmp_path))
    assert [(s.draw, s.types, s.support, s.query) for s in samples] == [
        (1, ("p-q", "b-x/y"), ("test-000000", "test-000001"), ("test-000002",)),
        (2, ("b-x/y", "p-q"), ("test-000002", "test-000003"), ("test-000000",)),
    ]
    assert first.support[0].words == ("a", "b", "c") and first.support[0].entities == (Entity(0, 2, "b-x/y"),)
    assert second.query == first.support[:1]


def test_fewnerd_header_tells_counts_and_the_old_release(tmp_path: Path) -> None:
    spec = dataset("fewnerd-episodes", "test_2_1.jsonl", ["b-x/y", "p-q"])
    samples, _ = tasks(spec, few(tmp_path))
    assert samples[0].header["counts"] == {"p-q": 1, "b-x/y": 1} and samples[0].header["over"] == {}
    assert samples[1].header["over"] == {"p-q": 2}  # of 4, more than 2K: the release before August 2021
    assert samples[1].header["target"] == {"b-x/y": 1, "p-q": 1} and samples[1].header["seed"] is None
    assert samples[1].header["data_sha256"] == DIGESTS
    assert samples[1].header["origin"] == {"file": "test_2_1.jsonl", "line": 2}
    assert samples[1].header["k"] == 1 and samples[1].header["rule"] == "official"


def test_draws_are_picked_with_the_ids_of_the_whole_file(tmp_path: Path) -> None:
    spec = dataset("fewnerd-episodes", "test_2_1.jsonl", ["b-x/y", "p-q"])
    path = few(tmp_path)
    every, _ = tasks(spec, path)
    picked, _ = tasks(spec, path, draws=[2])
    assert picked == every[1:]


def test_types_are_renamed_as_the_sentences_are(tmp_path: Path) -> None:
    spec = dataset("fewnerd-episodes", "test_2_1.jsonl", ["xy", "p-q"], rename={"b-x/y": "xy"})
    samples, built = tasks(spec, few(tmp_path))
    assert samples[0].types == ("p-q", "xy") and built[0].support[0].entities[0].type == "xy"


def test_the_script_names_the_data_file_in_the_header(tmp_path: Path, root: Path) -> None:
    spec = dataset("fewnerd-episodes", "test_2_1.jsonl", ["b-x/y", "p-q"])
    tasks(spec, few(tmp_path))
    (tmp_path / "config/datasets").mkdir(parents=True)
    (tmp_path / "config/datasets/toy.yaml").write_text(spec.model_dump_json())  # JSON is YAML
    setting = {"sampler": {"rule": "official"}, "support": "test"}
    job = {"dataset": "toy", "setting": setting, "types": list(spec.types), "draws": [2]}
    command = [sys.executable, str(root / "workflow/scripts/sample.py"), "--spec", json.dumps(job)]
    subprocess.run([*command, "--data", ".", "--raw", ".", "--output", "2-2.jsonl"], cwd=tmp_path, check=True)
    [sample] = read_samples(tmp_path / "2-2.jsonl")
    assert sample.draw == 2 and sample.header["data_sha256"] == {"test": sha256_file(tmp_path / "test.jsonl")}


def hou_part(*rows: str) -> dict[str, Any]:
    fewnerd = part(*rows)
    return {"seq_ins": fewnerd["word"], "seq_outs": fewnerd["label"], "labels": [], "word_piece_marks": []}


@pytest.mark.parametrize(
    ("name", "key", "k"), [("ner_train_2.json", "batch", 1), ("ner-train-2-shot-5.json", "query", 5)]
)
def test_hou_two_domains_both_names_and_keys(tmp_path: Path, name: str, key: str, k: int) -> None:
    news = [
        {"support": hou_part("a:B-per b:I-per", "a:B-per b:I-per"), key: hou_part("c:O")},
        {"support": hou_part("d:B-per"), key: hou_part("e:B-loc f:I-org")},
    ]
    path = tmp_path / name
    path.write_text(json.dumps({"News": news, "Wiki": [{"support": hou_part("g:B-org"), key: hou_part("c:O")}]}))
    spec = dataset("hou-episodes", name, ["per", "loc", "org"])
    samples, built = tasks(spec, path)
    assert [s.types for s in samples] == [("loc", "org", "per")] * 2 + [("org",)]
    assert samples[0].support == ("test-000000", "test-000000")  # Hou's sampler repeats sentences of rare labels
    assert samples[2].query == samples[0].query  # one sentence, shared by both domains
    assert built[1].query[0].entities == (Entity(0, 1, "loc"), Entity(1, 2, "org"))  # I- without B- opens
    assert samples[2].header["origin"] == {"file": name, "domain": "Wiki", "index": 0}
    assert [s.header["k"] for s in samples] == [k] * 3 and samples[0].header["over"] == {}
    assert samples[0].header["short"] == {"loc": k, "org": k} | ({"per": 3} if k == 5 else {})


def test_only_episode_datasets_have_episodes(tmp_path: Path) -> None:
    spec = dataset("columns", "a", [])
    assert not has_episodes("d", spec)
    with pytest.raises(ConfigError, match="reads no episodes"):
        official_samples("d", spec, "test", {}, data_sha256={})
    splits = {"test": {"files": ["a"], "part": {"low": 0, "high": 0.5}}}
    spec = dataset("hou-episodes", "a", [], splits=splits)
    assert has_episodes("d", spec)
    with pytest.raises(ConfigError, match="cannot be a part"):
        official_samples("d", spec, "test", {}, data_sha256={})
