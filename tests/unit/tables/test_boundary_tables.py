"""Boundary error rates in tables: less is better, changes absolute and relative, averaged gains, the definition."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest

from fewtable.files import read_json
from fewtable.layouts import ERRORS, TableSpec, metric_key
from fewtable.scoring.compare import compare, load_run
from fewtable.tables import Table, build, render_csv, render_html, render_md, render_tex
from fixtures.results_tree import write_results_tree

ROWS = [
    {"id": "sft", "title": "SFT", "method": "lc-bert", "backbone": "minilm"},
    {"id": "dpo", "title": "DPO", "method": "instructionner", "backbone": "smollm2", "baseline": "sft-here"},
]


def spec(**changes: Any) -> TableSpec:
    base: dict[str, Any] = {
        "title": "T",
        "metric": "ber",
        "rows": ROWS,
        "columns": [
            {"id": "one", "title": "One", "dataset": "toy", "setting": "2-shot"},
            {"id": "two", "title": "Two", "dataset": "other", "setting": "2-shot"},
        ],
        "averages": [{"id": "avg", "title": "Mean", "columns": ["one", "two"]}],
        "printed": {"source": "A paper", "values": {}, "gains": {"dpo": {"avg": -10.3}}},
        "compare": [["dpo", "sft"]],
    }
    return TableSpec.model_validate(base | changes)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_results_tree(tmp_path)
    return tmp_path


@pytest.fixture
def cells(results: Path) -> list[dict[str, Any]]:
    """The fixture's cells on two datasets, and LC-BERT's as the baseline on the other backbone."""
    found = [read_json(path) for path in sorted((results / "cells").rglob("*.json"))]
    base = next(cell for cell in found if cell["method"] == "lc-bert")
    both = [*found, {**base, "method": "sft-here", "backbone": "smollm2"}]
    return [*both, *({**cell, "dataset": "other"} for cell in both)]


def rows_of(table: Table) -> dict[tuple[str, str], dict[str, str]]:
    return {(r["row"], r["column"]): r for r in csv.DictReader(io.StringIO(render_csv(table)))}


def test_every_boundary_metric_is_in_a_cell_and_the_least_is_the_best(cells: list[dict[str, Any]]) -> None:
    for metric in ERRORS:
        table = build("t", spec(metric=metric), cells)
        means = {
            row: cell.value.mean for (row, column), cell in table.entries.items() if cell.value and column == "one"
        }
        assert set(means) == {"sft", "dpo"} and all(0 <= mean <= 100 for mean in means.values())
        best = [row for (row, column), cell in table.entries.items() if cell.best and column == "one"]
        assert min(means, key=means.__getitem__) in best
        assert table.entries["sft", "one"].metric == metric_key(metric)
        assert "less is better" in dict(table.lines)["Scorer"]
    assert {metric_key(metric) for metric in ERRORS} == {
        "boundary.ber",
        "boundary.ber_pred",
        "boundary.ber_gold",
        "boundary.ber_blind",
    }


def test_the_definition_and_the_printed_change_stand_in_every_form(cells: list[dict[str, Any]]) -> None:
    table = build("t", spec(), cells)
    rows = rows_of(table)
    gain = float(rows["dpo", "one"]["mean"]) - float(rows["sft", "one"]["mean"])
    assert float(rows["dpo", "one"]["gain"]) == pytest.approx(gain, abs=1e-3)
    assert float(rows["dpo", "avg"]["gain"]) == pytest.approx(gain, abs=1e-3), "the mean of the two gains"
    assert (rows["dpo", "avg"]["gain_printed"], rows["dpo", "avg"]["printed"]) == ("-10.3", "")
    assert "[printed (−10.3)]" in render_md(table) and "printed (−10.3)" in render_html(table)
    assert "($-$10.3)" in render_tex(table)
    for render in (render_md, render_tex, render_html):
        assert "wrong edges / (exact + wrong edges)" in render(table).replace("\\", "")


def test_a_difference_of_error_rates_has_a_relative_change_with_an_interval(
    cells: list[dict[str, Any]], results: Path
) -> None:
    columns = spec().columns[:1]
    table = build("t", spec(columns=columns, averages=[], printed=None), cells, results=results)
    (found,) = table.comparisons
    keys = ("toy/2-shot/instructionner/smollm2", "toy/2-shot/lc-bert/minilm")
    runs = [load_run(next((results / "runs" / key).rglob("scores.test.json"))) for key in keys]
    expected = compare(*runs, "boundary.ber")
    for name in ("difference", "low", "high", "relative", "relative_low", "relative_high"):
        assert getattr(found, name) == expected[name]
    assert found.relative is not None and found.relative_low is not None and found.relative_high is not None
    assert found.relative_low <= found.relative <= found.relative_high
    shown = f"{found.relative:+.1f}".replace("-", "−")
    assert f"| {shown} |" in render_md(table) and "Relative, %" in render_md(table)
    assert f"relative {shown} %" in render_html(table)
    assert re.search(r"relative .* \\%", render_tex(table))
    twice = [columns[0], columns[0].model_copy(update={"id": "again"})]
    average = [{"id": "avg", "title": "Mean", "columns": ["one", "again"]}]
    both = build("t", spec(columns=twice, averages=average, printed=None), cells, results=results)
    mean = both.comparisons[-1]
    assert [c.column for c in both.comparisons] == ["one", "again", "avg"]
    assert mean.difference == pytest.approx(found.difference) and mean.relative == pytest.approx(found.relative)
    assert mean.high - mean.low < found.high - found.low, "two columns know more than one"
    assert "Mean |" in render_md(both).split("Differences between rows")[1]
    plain = build("t", spec(columns=columns, averages=[], printed=None, metric="strict"), cells, results=results)
    assert plain.comparisons[0].relative is None and "elative" not in render_md(plain) + render_tex(plain)
