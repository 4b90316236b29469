"""A new corpus, method, format and family each cost what docs/add-a-*.md says, and run to a cell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.project import Project

pytestmark = pytest.mark.slow

DOCS = Path(__file__).resolve().parents[2] / "docs"
CONLL = """Parking O
near O
Main B-STREET
Street I-STREET

Refund O
for O
Anna B-NAME
"""

FORMAT = '''"""Entities as ``text=type`` pairs."""

from fewtable.corpus import Entity
from fewtable.formats.base import Dropped, Example, Format, Parsed
from fewtable.specs import Spec


class Options(Spec):
    """None."""


class Pairs(Format):
    Options = Options
    kind = "text"
    uses = frozenset({"words"})
    parsing = frozenset()

    def __init__(self, types, options):
        self.words = {t.name: t.words for t in types}

    def render(self, sentence):
        pairs = [f"{' '.join(sentence.words[e.start:e.end])}={self.words[e.type]}" for e in sentence.entities]
        return [Example(" ".join(sentence.words), "; ".join(pairs))]

    def parse(self, words, output):
        return Parsed((), (Dropped("unparsed", str(output)),))


FORMAT = Pairs
'''

FAMILY = '''"""Calls every capitalised word an entity of the first type."""

from fewtable.specs import Spec

BACKBONES = frozenset({"none"})
OUTPUT = "spans"


class Train(Spec):
    """None."""


class Decode(Spec):
    """None."""


class Session:
    def fit(self, task, fit):
        fit.log(1, loss=0.0)

    def decode(self, task, model):
        for sentence in task.query:
            yield [[i, i + 1, task.types[0]] for i, word in enumerate(sentence.words) if word[:1].isupper()]


def load(job):
    return Session()
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A scratch copy with the corpus of docs/add-a-dataset.md, its YAML taken from the page itself."""
    project = Project.make(tmp_path_factory.mktemp("extend") / "project")
    for split in ("train", "test"):
        (project.root / f"{split}.conll").write_text("\n".join([CONLL] * 6))
    page = (DOCS / "add-a-dataset.md").read_text()
    text = page.split("`config/datasets/tickets.yaml`:")[1].split("```yaml\n")[1].split("```")[0]
    text = text.replace("/data/tickets/", f"{project.root}/")
    (project.root / "config/datasets/tickets.yaml").write_text(text)
    return project


def cell(project: Project, path: str) -> dict[str, object]:
    target = f"results/cells/{path}.json"
    project.run(target)
    value: dict[str, object] = json.loads((project.root / target).read_text())
    return value


def test_a_dataset_is_one_yaml(project: Project) -> None:
    checked = project.cli("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    stats = project.cli("data", "stats", "tickets", "--json")
    assert json.loads(stats.stdout)["splits"][0]["entities"] == 12
    made = cell(project, "tickets/5-shot/lexicon/none")
    assert made["metrics"]["strict.f1"]["mean"] == 100.0  # type: ignore[index]
    assert made["samples"]["1"]["counts"] == {"STREET": 5, "NAME": 5}  # type: ignore[index]


def test_an_edited_corpus_runs_again(project: Project) -> None:
    target = "results/cells/tickets/5-shot/lexicon/none.json"
    project.run(target)
    with project.edited("test.conll", "Anna B-NAME", "Bert B-NAME"):
        assert project.rules(target)["fetch"] == 1


def test_a_malformed_line_is_named(project: Project) -> None:
    with project.edited("test.conll", "Anna B-NAME", "Anna"):
        stats = project.cli("data", "stats", "tickets")
        assert f"{project.root}/test.conll:8:" in stats.stderr, "the person's own file is named, not a copy"
        done = project.run("results/data/tickets/test.jsonl", check=False)
    assert done.returncode != 0
    assert "test.conll:8:" in done.stdout + done.stderr
    assert not (project.root / "results/data/tickets/test.jsonl").exists()
    project.run("results/data/tickets/test.jsonl")


def test_a_method_is_one_yaml(project: Project) -> None:
    page = (DOCS / "add-a-method.md").read_text()
    text = page.split("`config/methods/lc-bert-long.yaml`:")[1].split("```yaml\n")[1].split("```")[0]
    text = text.replace("min_steps: 500", "min_steps: 2, epochs: 1")
    (project.root / "config/methods/lc-bert-long.yaml").write_text(text)
    made = cell(project, "tickets/5-shot/lc-bert-long/tiny-bert")
    assert made["spec"]["train"]["min_steps"] == 2  # type: ignore[index]


def test_a_misspelt_hyper_parameter_is_named(project: Project) -> None:
    path = project.root / "config/methods/typo.yaml"
    path.write_text("extends: lc-bert\ntrain: {epocs: 2}\n")
    done = project.run("-n", "results/cells/tickets/5-shot/typo/tiny-bert.json", check=False)
    path.unlink()
    said = done.stdout + done.stderr
    assert "config/methods/typo.yaml:train:epocs" in said
    assert "did you mean 'epochs'?" in said


def test_a_format_is_one_file(project: Project) -> None:
    (project.root / "src/fewtable/formats/pairs.py").write_text(FORMAT)
    (project.root / "config/methods/pairs.yaml").write_text(
        "title: Pairs\nfamily: causal\nformat: {name: pairs}\n"
        "train: {epochs: 1, batch_size: 4, lr: 1.0e-3}\ndecode: {batch_size: 8, beams: 1, max_new_tokens: 4}\n"
    )
    shown = project.cli("prompts", "pairs", "tickets", "--limit", "1")
    assert json.loads(shown.stdout)["target"] == "Main Street=street", shown.stderr
    made = cell(project, "tickets/5-shot/pairs/tiny-llama")
    assert made["dropped"]["unparsed"] == 36  # type: ignore[index]


def test_a_family_is_one_module_and_a_yaml(project: Project) -> None:
    (project.root / "src/fewtable/families/capitals.py").write_text(FAMILY)
    (project.root / "config/methods/capitals.yaml").write_text(
        "title: Capitals\nfamily: capitals\nformat: {name: spans}\n"
    )
    made = cell(project, "tickets/5-shot/capitals/none")
    assert made["per_type"]["STREET"]["fp"] > 0  # type: ignore[index]
