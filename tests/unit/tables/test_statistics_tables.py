from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fewtable.check import check
from fewtable.corpus import Entity, Sentence, write_sentences
from fewtable.layouts import StatisticsSpec
from fewtable.plan import Plan
from fewtable.registry import Registry
from fewtable.tables.statistics import Statistics, from_params, render_csv
from fewtable.tables.statistics_forms import render_html, render_md, render_tex

LICENCE = "licence: set licensed.closed in config/config.yaml"
SPLITS = {
    "train": [("a b c", [(0, 1, "x"), (1, 2, "y")]), ("d", [])],
    "test": [("a b", [(0, 2, "x")]), ("e", [(0, 1, "z")]), ("f", [])],
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for split, rows in SPLITS.items():
        sentences = [
            Sentence(f"{split}-{n}", tuple(words.split()), tuple(Entity(*e) for e in entities))
            for n, (words, entities) in enumerate(rows)
        ]
        write_sentences(tmp_path / "data/toy" / f"{split}.jsonl", sentences)
    return tmp_path


def params() -> dict[str, Any]:
    columns = [
        {"id": "train", "title": "Train", "count": "sentences", "splits": ["train"]},
        {"id": "dev", "title": "Dev", "count": "sentences", "splits": ["dev"]},
        {"id": "all", "title": "All", "count": "sentences"},
        {"id": "types", "title": "Types", "count": "types", "splits": ["train"]},
        {"id": "tokens", "title": "Tokens & more", "count": "tokens"},
        {"id": "entities", "title": "Entities", "count": "entities"},
    ]
    rows = [
        {"id": "toy", "title": "Toy", "dataset": "toy", "note": "a <b>note</b>"},
        {"id": "closed", "title": "Closed", "group": "Law", "dataset": "closed"},
    ]
    printed = {"source": "A paper", "values": {"toy": {"train": 3, "types": 2, "dev": 4}, "closed": {"train": 1000}}}
    splits = {"train": ["train"], "dev": [], "all": ["train", "test"], "types": ["train"]}
    both = ["train", "test"]
    return {
        "name": "paper/sizes",
        "statistics": {"title": "Sizes", "rows": rows, "columns": columns, "printed": printed},
        "splits": {f"{row}/{c['id']}": splits.get(c["id"], both) for row in ("toy", "closed") for c in columns},
        "missing": {f"closed/{c['id']}": LICENCE for c in columns},
    }


def rows_of(table: Statistics) -> dict[tuple[str, str], dict[str, str]]:
    return {(r["row"], r["column"]): r for r in csv.DictReader(io.StringIO(render_csv(table)))}


def test_counts_are_those_of_the_data(results: Path) -> None:
    rows = rows_of(from_params(params(), results))
    values = {column: rows["toy", column]["value"] for column in ("train", "all", "types", "tokens", "entities")}
    # 5 sentences of 4 + 4 words and 2 + 2 entities; z is in test alone.
    assert values == {"train": "2", "all": "5", "types": "2", "tokens": "1.6", "entities": "0.8"}
    assert (rows["toy", "train"]["printed"], rows["toy", "train"]["delta"]) == ("3", "-1")
    assert rows["toy", "types"]["delta"] == "0"


def test_what_is_not_there_says_why(results: Path) -> None:
    rows = rows_of(from_params(params(), results))
    assert (rows["closed", "train"]["status"], rows["closed", "train"]["why"]) == ("licence", LICENCE)
    assert (rows["toy", "dev"]["status"], rows["toy", "dev"]["why"]) == ("missing", "it has no split dev")
    assert rows["toy", "dev"]["value"] == rows["toy", "dev"]["delta"] == ""


def test_every_form_shows_counts_printed_ones_and_notes(results: Path) -> None:
    table = from_params(params(), results)
    for render in (render_md, render_tex, render_html):
        text = render(table).replace("\\", "")
        for part in (
            "Toy",
            "2 [3]",
            "licence [1,000]",
            "Law: Closed",
            "– [4]".replace("–", "–" if render is not render_tex else "--"),
        ):
            assert part in text, part
        assert "licensed.closed" in text and "A paper" in text
    assert "<b>" not in render_html(table) and "<b>" not in render_md(table)
    assert r"Tokens \& more" in render_tex(table)


def test_the_papers_table_counts_the_real_data(root: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    plan = Plan(Registry(Path("config")), {"mirror": str(mirror)})
    files = plan.statistics_files("instructionner/table4")
    assert "results/data/atis/train.jsonl" in files and not any("ontonotes5" in file for file in files)
    made = json.loads(plan.statistics_params("instructionner/table4"))
    assert set(made["missing"]) == {f"ontonotes5/{column}" for column in ("train", "test", "types")}
    assert "train/data/english/annotations" in made["missing"]["ontonotes5/train"]
    found = check(plan)
    assert any("instructionner/table4: ontonotes5/train" in cells for cells in found.blocked.values())


def test_the_papers_counts_are_printed_as_they_stand(root: Path) -> None:
    printed = Registry(root / "config").statistics("instructionner/table4").printed
    assert printed is not None
    rows = {row: tuple(values.values()) for row, values in printed.values.items()}
    assert rows == {
        "conll2003": (14986, 3684, 4),
        "atis": (4478, 893, 79),
        "mit-movie": (9775, 2443, 12),
        "mit-restaurant": (7660, 1521, 8),
        "ontonotes5": (115812, 12217, 18),
    }


def test_the_script_writes_four_files(root: Path, results: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(root / "workflow/scripts/dataset_statistics.py"), "--spec", json.dumps(params())]
    command += ["--results", str(results), "--output", str(tmp_path / "paper/sizes")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "statistics paper/sizes: 5 of 12 counts" in done.stderr
    assert sorted(p.suffix for p in (tmp_path / "paper").iterdir()) == [".csv", ".html", ".md", ".tex"]


def test_a_row_names_its_split(results: Path) -> None:
    wrong = params()["statistics"] | {"columns": [{"id": "a", "title": "A", "count": "lines"}]}
    with pytest.raises(ValueError, match="sentences"):
        StatisticsSpec.model_validate(wrong)
