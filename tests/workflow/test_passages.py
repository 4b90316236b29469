"""A corpus is one YAML, as docs/add-a-corpus.md says; its passages run again when what they depend on changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.project import Project

pytestmark = pytest.mark.slow

DOCS = Path(__file__).resolve().parents[2] / "docs"
TARGET = "results/passages/letters.jsonl"
CONLL = "Parking O\nnear O\nMain B-STREET\nStreet I-STREET\nis O\nclosed O\ntoday O\nfor O\nrepairs O\n. O\n"
TICKETS = """title: Tickets
domain: support
licence: our own
reader: columns
options: {separator: any}
files: {train.conll: {sources: [{path: %s/train.conll}]}}
splits: {train: {files: [train.conll]}}
types: {STREET: {words: street, definition: A street.}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A scratch copy with the corpus of docs/add-a-corpus.md, its YAML taken from the page itself."""
    project = Project.make(tmp_path_factory.mktemp("passages") / "project")
    page = (DOCS / "add-a-corpus.md").read_text()
    text = page.split("`config/corpora/letters.yaml`:")[1].split("```yaml\n")[1].split("```")[0]
    (project.root / "config/corpora/letters.yaml").write_text(text.replace("/data/letters/", f"{project.root}/"))
    (project.root / "config/datasets/tickets.yaml").write_text(TICKETS % project.root)
    (project.root / "train.conll").write_text(CONLL)
    rows = [{"body": f"Dear Sir, my order number {i} never came. Please write to me soon."} for i in range(30)]
    (project.root / "2024.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    project.run(TARGET)
    return project


def test_a_corpus_is_one_yaml(project: Project) -> None:
    assert project.cli("check").returncode == 0
    rows = [json.loads(line) for line in (project.root / TARGET).read_text().splitlines()]
    texts = {row["text"] for row in rows}
    assert "Parking near Main Street is closed today for repairs ." in texts
    assert "Dear Sir, my order number 7 never came. Please write to me soon." in texts
    summary = json.loads((project.root / "results/passages/letters.summary.json").read_text())
    assert summary["kept"] == len(rows) == 31


def test_it_runs_again_only_for_what_changes_it(project: Project) -> None:
    assert project.rules(TARGET) == {}
    with project.edited("config/corpora/letters.yaml", "title: Letters", "title: All letters"):
        assert project.rules(TARGET) == {}
    with project.edited("src/fewtable/sampling/greedy.py", "def ", "def _unused() -> None: ...\n\n\ndef "):
        assert project.rules(TARGET) == {}
    with project.edited("config/corpora/letters.yaml", "max_tokens: 64", "max_tokens: 32"):
        assert project.rules(TARGET) == {"passages": 1}
    with project.edited("src/fewtable/passages/draw.py", "[:16]", "[16:]"):
        assert project.rules(TARGET) == {"passages": 1}
    with project.edited("2024.jsonl", "number 7 ", "number 99 "):
        assert project.rules(TARGET) == {"passages": 1}


def test_a_broken_line_and_a_misspelt_name_are_told(project: Project) -> None:
    with project.edited("2024.jsonl", '"}\n{', '"\n{'):
        done = project.run(TARGET, check=False)
    assert done.returncode != 0 and "2024.jsonl:1: not JSON" in done.stdout + done.stderr
    done = project.run("-n", "results/passages/leters.jsonl", check=False)
    assert "unknown corpus 'leters'" in done.stdout + done.stderr
    assert "did you mean 'letters'?" in done.stdout + done.stderr
    project.run(TARGET)
