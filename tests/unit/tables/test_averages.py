"""Columns of means, and rows with a setting of their own."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fewtable.files import read_json
from fewtable.layouts import TableSpec
from fewtable.report.collect import collect
from fewtable.tables import Table, build, render_csv, render_html, render_md, render_tex
from fixtures.results_tree import write_results_tree

ROWS = [
    {"id": "bert", "title": "LC-BERT", "method": "lc-bert", "backbone": "minilm"},
    {"id": "lexicon", "title": "Lexicon", "method": "lexicon", "backbone": "none"},
]
COLUMNS = [
    {"id": "one", "title": "One", "group": "G", "dataset": "toy", "setting": "2-shot"},
    {"id": "two", "title": "Two", "group": "G", "dataset": "other", "setting": "2-shot"},
    {"id": "three", "title": "Three", "dataset": "toy", "setting": "2-shot"},
]


def spec(**changes: Any) -> TableSpec:
    base: dict[str, Any] = {
        "title": "T",
        "rows": ROWS,
        "columns": COLUMNS,
        "averages": [{"id": "avg", "title": "Avg", "group": "G", "columns": ["one", "two"]}],
        "printed": {"source": "A paper", "values": {"bert": {"avg": [50.0, None], "one": [40.0, None]}}},
    }
    return TableSpec.model_validate(base | changes)


@pytest.fixture
def cells(tmp_path: Path) -> list[dict[str, Any]]:
    """The fixture's cells, and LC-BERT's again on another dataset, ten points lower."""
    write_results_tree(tmp_path)
    found = [read_json(path) for path in sorted((tmp_path / "cells").rglob("*.json"))]
    bert = next(cell for cell in found if cell["method"] == "lc-bert")
    f1 = bert["metrics"]["strict.f1"]
    metrics = bert["metrics"] | {"strict.f1": {**f1, "mean": f1["mean"] - 10}}
    return [*found, {**bert, "dataset": "other", "metrics": metrics}]


def rows_of(table: Table) -> dict[tuple[str, str], dict[str, str]]:
    return {(r["row"], r["column"]): r for r in csv.DictReader(io.StringIO(render_csv(table)))}


def test_an_average_is_the_mean_of_its_columns_and_stands_after_them(cells: list[dict[str, Any]]) -> None:
    table = build("t", spec(), cells)
    rows = rows_of(table)
    assert [column for row, column in rows if row == "bert"] == ["one", "two", "avg", "three"]
    mean = float(rows["bert", "one"]["mean"]) - 5
    assert float(rows["bert", "avg"]["mean"]) == pytest.approx(mean, abs=1e-3)
    assert float(rows["bert", "avg"]["delta"]) == pytest.approx(mean - 50, abs=1e-3)
    assert (rows["bert", "avg"]["dataset"], rows["bert", "avg"]["method"], rows["bert", "avg"]["n"]) == (
        "",
        "lc-bert",
        "",
    )
    assert table.groups == [("G", 3), ("", 1)]
    assert "Avg: the mean" in dict(table.lines)["Average"]


def test_an_average_that_lacks_a_value_is_blank_and_has_no_note(cells: list[dict[str, Any]]) -> None:
    table = build("t", spec(), cells)
    blank = rows_of(table)["lexicon", "avg"]
    assert (blank["mean"], blank["status"]) == ("", "missing")
    assert "lexicon/two" in table.marks and "lexicon/avg" not in table.marks
    for cell in cells:
        if cell["method"] == "lc-bert" and cell["dataset"] == "other":
            cell["flags"] = ["oracle"]
    assert rows_of(build("t", spec(), cells))["bert", "avg"]["mean"] == "", "what is not comparable is not averaged"


def test_an_average_is_taken_over_what_can_be_had_and_says_so(cells: list[dict[str, Any]]) -> None:
    whole = spec().averages[0]
    assert whole.among({"one", "two", "three"}) == whole == whole.among(()), "all, or none"
    part = whole.among({"two", "three"})
    assert (part.title, part.over, part.columns) == ("Avg (1 of 2)", ("two",), ("one", "two"))
    table = build("t", spec(averages=[part.model_dump()]), cells)
    rows = rows_of(table)
    assert float(rows["bert", "avg"]["mean"]) == pytest.approx(float(rows["bert", "two"]["mean"]), abs=1e-3)
    assert (rows["bert", "avg"]["printed"], rows["bert", "avg"]["delta"]) == ("50", "")
    assert [column for row, column in rows if row == "bert"] == ["one", "two", "avg", "three"]
    assert "can't be had here" in dict(table.lines)["Average"]
    assert "can't be had here" not in dict(build("t", spec(), cells).lines)["Average"]


def test_every_form_shows_the_average(cells: list[dict[str, Any]]) -> None:
    table = build("t", spec(), cells)
    mean = table.entries["bert", "avg"].value
    assert mean is not None
    shown = f"{mean.mean:.1f}"
    line = next(line for line in render_md(table).splitlines() if line.startswith("| LC-BERT"))
    assert re.search(rf"\| {re.escape(shown)} \[printed 50.0, Δ", line) and line.count("|") == 6
    assert shown in render_tex(table) and r"\begin{tabular}{@{}lrrrr@{}}" in render_tex(table)
    html = render_html(table)
    assert f'<span class="mean">{shown}</span><span class="small">printed' in html, "no number of draws beside it"
    assert "n = None" not in html and 'colspan="3"' in html


def test_averages_and_columns_are_checked() -> None:
    average = {"id": "avg", "title": "Avg", "columns": ["one", "two"]}
    with pytest.raises(ValidationError, match="no column has the id 'too'"):
        spec(averages=[{**average, "columns": ["one", "too"]}])
    with pytest.raises(ValidationError, match="two columns have the id 'one'"):
        spec(averages=[{**average, "id": "one"}], printed=None)
    with pytest.raises(ValidationError, match="'avg' is the average of different metrics"):
        spec(columns=[COLUMNS[0], {**COLUMNS[1], "metric": "uniner"}, COLUMNS[2]])


def test_a_row_may_have_a_setting_of_its_own(cells: list[dict[str, Any]], tmp_path: Path) -> None:
    rows = [{**ROWS[0], "setting": "full"}, ROWS[1]]
    made = spec(rows=rows, columns=COLUMNS[:1], averages=[], printed=None)
    assert made.cells == {"bert/one": "toy/full/lc-bert/minilm", "lexicon/one": "toy/2-shot/lexicon/none"}
    bert = next(cell for cell in cells if cell["method"] == "lc-bert" and cell["dataset"] == "toy")
    bert["setting"] = "full"
    bert["samples"] = {"1": {"rule": "all", "counts": {}, "data_sha256": {"test": "a" * 64}}}
    lines = dict(build("t", made, cells).lines)
    assert "rule “all”" in lines["Sample, G, One, full"] and "CAUTION" not in "".join(lines.values())
    assert "rule “exact”" in lines["Sample, G, One"]
    params = {"name": "t", "table": made.model_dump(mode="json"), "notes": {}, "blocked": {"bert/one": "data: x"}}
    assert [view.setting for view in collect([params], tmp_path).columns] == ["2-shot"]
