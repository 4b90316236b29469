"""Rows: bars that lie, means over datasets, differences to a baseline, agreement of runs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pydantic import ValidationError

from fewtable.errors import DataError
from fewtable.figures import build, draw, from_params, render_csv
from fewtable.figures.agreement import agreement
from fewtable.figures.drawing import COLOURS, WIDTH
from fewtable.files import write_json, write_jsonl
from fewtable.layouts import FigureSpec

SVG = "{http://www.w3.org/2000/svg}"
LICENCE = "licence: set licensed.c in config/config.yaml"


def spec(**changes: Any) -> FigureSpec:
    base: dict[str, Any] = {
        "title": "Toy",
        "kind": "rows",
        "x": "F1 (%)",
        "panels": [{"id": "p", "title": "Panel", "setting": "zero-shot"}],
        "series": [{"id": "m", "title": "M", "method": "m", "backbone": "none"}],
        "points": [
            {"id": "a", "title": "A", "dataset": "a", "group": "shared"},
            {"id": "b", "title": "B", "dataset": "b", "group": "own"},
            {"id": "mean", "title": "Mean", "datasets": ["a", "b"], "group": "shared"},
        ],
    }
    return FigureSpec.model_validate(base | changes)


def cell(mean: float, **more: Any) -> dict[str, Any]:
    value = {"mean": mean, "sd": None, "n": 1, "low": None, "high": None}
    return {"metrics": {"strict.f1": value}, "flags": [], "blocks": ["1-1"], "query": "test", **more}


CELLS = {
    "a/zero-shot/m/none": cell(40.0),
    "b/zero-shot/m/none": cell(70.0),
    "a/zero-shot/before/none": cell(50.0),
    "b/zero-shot/before/none": cell(45.0),
}


def rows_of(text: str) -> dict[str, dict[str, str]]:
    return {row["point"]: row for row in csv.DictReader(io.StringIO(text))}


def test_a_point_may_be_the_mean_of_datasets() -> None:
    rows = rows_of(render_csv(build("f", spec(), CELLS)))
    assert [rows[name]["mean"] for name in ("a", "b", "mean")] == ["40", "70", "55"]
    assert (rows["mean"]["dataset"], rows["mean"]["method"], rows["mean"]["baseline"]) == ("2 datasets", "m", "")
    assert spec().cells == {
        "p/m/a": "a/zero-shot/m/none",
        "p/m/b": "b/zero-shot/m/none",
        "p/m/mean/a": "a/zero-shot/m/none",
        "p/m/mean/b": "b/zero-shot/m/none",
    }


def test_a_mean_that_lacks_a_dataset_is_blank_and_names_it() -> None:
    points = [{"id": "mean", "title": "Mean", "datasets": ["a", "c", "d"]}]
    found = build("f", spec(points=points), CELLS, {"p/m/mean/c": LICENCE})
    row = rows_of(render_csv(found))["mean"]
    assert (row["mean"], row["status"]) == ("", "licence")
    assert row["why"] == f"{LICENCE} (c); the cell has not been run (d)"


def test_a_series_with_a_baseline_shows_differences() -> None:
    series = [{"id": "m", "title": "M", "method": "m", "backbone": "none", "baseline": "before"}]
    made = spec(series=series)
    rows = rows_of(render_csv(build("f", made, CELLS)))
    assert [rows[name]["mean"] for name in ("a", "b", "mean")] == ["-10", "25", "7.5"]
    assert rows["a"]["baseline"] == "before"
    assert made.cells["p/m/a/baseline"] == "a/zero-shot/before/none"
    assert made.cells["p/m/mean/b/baseline"] == "b/zero-shot/before/none"
    lacking = {key: value for key, value in CELLS.items() if key != "a/zero-shot/before/none"}
    rows = rows_of(render_csv(build("f", made, lacking)))
    assert (rows["a"]["mean"], rows["a"]["why"]) == ("", "the cell has not been run (baseline)")
    assert rows["b"]["mean"] == "25"


def test_rows_lie_in_order_and_are_coloured_by_group() -> None:
    series = [{"id": "m", "title": "M", "method": "m", "backbone": "none", "baseline": "before"}]
    drawn = ElementTree.fromstring(draw(build("f", spec(series=series), CELLS), "svg"))
    assert drawn.attrib["width"] == f"{WIDTH * 72:g}pt"
    paths = {e.attrib["id"]: e.find(f"{SVG}path") for e in drawn.iter() if e.attrib.get("id", "").startswith("p.m.")}
    boxes = {}
    for name, path in paths.items():
        assert path is not None
        numbers = [float(part) for part in path.attrib["d"].replace("z", "").split() if part not in "MLz"]
        boxes[name.split(".")[2]] = (min(numbers[::2]), max(numbers[::2]), min(numbers[1::2]))
    assert boxes["a"][2] < boxes["b"][2] < boxes["mean"][2], "the first on top, and y grows downwards"
    assert boxes["a"][1] == pytest.approx(boxes["b"][0]), "losses to the left of zero, gains to the right"
    assert (boxes["b"][1] - boxes["b"][0]) / (boxes["a"][1] - boxes["a"][0]) == pytest.approx(2.5, abs=0.01)
    fills = {name.split(".")[2]: path.attrib["style"] for name, path in paths.items() if path is not None}
    assert fills["a"].startswith(f"fill: {COLOURS[0].lower()}") and fills["mean"] == fills["a"]
    assert fills["b"].startswith("fill: url("), "the second group is hatched, in another colour"
    assert draw(build("f", spec(), {}), "svg"), "nothing to draw is no error"


def test_agreement_is_the_mean_jaccard_index_of_pairs() -> None:
    one, two = (1, "s", 0, 1, "p"), (1, "s", 2, 3, "p")
    runs = [frozenset({one, two}), frozenset({one}), frozenset({two})]
    assert agreement(runs) == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    three = (1, "t", 0, 1, "p")
    assert agreement([frozenset({one, two}), frozenset({two, three})]) == pytest.approx(1 / 3)
    assert agreement([frozenset(), frozenset()]) == 1.0
    assert agreement([frozenset({one}), frozenset({(2, *one[1:])})]) == 0.0, "another draw is another answer"


def test_a_point_may_be_the_agreement_of_runs(tmp_path: Path) -> None:
    points = [{"id": "same", "title": "Agreement", "datasets": ["a", "b"], "number": "agreement"}]
    params = {"name": "f", "figure": json.loads(spec(points=points).model_dump_json()), "blocked": {}}
    for dataset, entities in (("a", [[0, 1, "p"], [2, 3, "p"]]), ("b", [[0, 1, "p"]])):
        key = f"{dataset}/zero-shot/m/none"
        write_json(tmp_path / "cells" / f"{key}.json", cell(10.0))
        rows = [{"draw": 1, "id": "test-000000", "entities": entities, "dropped": []}]
        write_jsonl(tmp_path / "runs" / key / "1-1/predictions.test.jsonl", rows)
    assert rows_of(render_csv(from_params(params, tmp_path)))["same"]["mean"] == "50"
    (tmp_path / "runs/b/zero-shot/m/none/1-1/predictions.test.jsonl").unlink()
    with pytest.raises(DataError, match="its predictions are not"):
        from_params(params, tmp_path)
    (tmp_path / "cells/b/zero-shot/m/none.json").unlink()
    assert rows_of(render_csv(from_params(params, tmp_path)))["same"]["why"] == "the cell has not been run (b)"


def test_points_are_checked() -> None:
    with pytest.raises(ValidationError, match="'dataset' or 'datasets'"):
        spec(points=[{"id": "a", "title": "A", "dataset": "a", "datasets": ["b"]}])
    with pytest.raises(ValidationError, match="two datasets or more"):
        spec(points=[{"id": "a", "title": "A", "dataset": "a", "number": "agreement"}])
    with pytest.raises(ValidationError, match="gives 2 names of a dataset"):
        spec(panels=[{"id": "p", "title": "P", "setting": "zero-shot", "dataset": "a"}])
