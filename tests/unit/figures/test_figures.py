from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pydantic import ValidationError

from fewtable.figures import Figure, build, draw, from_params, render_csv
from fewtable.figures.drawing import COLOURS, STYLE, WIDTH
from fewtable.files import read_json
from fewtable.layouts import FigureSpec
from fixtures.results_tree import METHODS, write_results_tree

LICENCE = "licence: set licensed.ontonotes in config/config.yaml"
SVG = "{http://www.w3.org/2000/svg}"


def spec(**changes: Any) -> FigureSpec:
    base: dict[str, Any] = {
        "title": "Toy",
        "kind": "lines",
        "x": "Shots",
        "panels": [{"id": "toy", "title": "Toy", "dataset": "toy"}],
        "series": [
            {"id": name, "title": name, "method": name, "backbone": METHODS[name][0]} for name in ("lexicon", "lc-bert")
        ],
        "points": [
            {"id": "k2", "title": "2", "setting": "2-shot"},
            {"id": "k5", "title": "5", "setting": "5-shot"},
        ],
        "printed": {"source": "A paper", "values": {"toy": {"lc-bert": {"k2": [50.0, 1.5]}}}},
    }
    return FigureSpec.model_validate(base | changes)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures") / "results"
    write_results_tree(folder)
    return folder


@pytest.fixture
def cells(results: Path) -> dict[str, Any]:
    found = (read_json(path) for path in (results / "cells").rglob("*.json"))
    return {f"{c['dataset']}/{c['setting']}/{c['method']}/{c['backbone']}": c for c in found}


def rows_of(figure: Figure) -> dict[tuple[str, str, str], dict[str, str]]:
    rows = csv.DictReader(io.StringIO(render_csv(figure)))
    return {(r["series"], r["point"], r["metric"]): r for r in rows}


def elements(figure: Figure) -> dict[str, ElementTree.Element]:
    root = ElementTree.fromstring(draw(figure, "svg"))
    return {found.attrib["id"]: found for found in root.iter() if "id" in found.attrib}


def test_the_csv_holds_the_numbers_of_the_cells(cells: dict[str, Any]) -> None:
    rows = rows_of(build("toy", spec(kind="bars", behind="span"), cells))
    assert len(rows) == 8
    for metric in ("strict.f1", "span.f1"):
        found, cell = rows["lc-bert", "k2", metric], cells["toy/2-shot/lc-bert/minilm"]["metrics"][metric]
        for part in ("mean", "sd", "low", "high"):
            assert float(found[part]) == pytest.approx(cell[part], abs=1e-4)
        assert (found["n"], found["status"], found["why"]) == ("2", "ok", "")
    assert (rows["lc-bert", "k2", "strict.f1"]["printed"], rows["lc-bert", "k2", "span.f1"]["printed"]) == ("50", "")


def test_what_is_missing_has_a_line_that_says_why(cells: dict[str, Any]) -> None:
    cells["toy/2-shot/lexicon/none"]["flags"] = ["oracle"]
    rows = rows_of(build("toy", spec(), cells, {"toy/lc-bert/k5": LICENCE}))
    assert (rows["lc-bert", "k5", "strict.f1"]["status"], rows["lc-bert", "k5", "strict.f1"]["why"]) == (
        "licence",
        LICENCE,
    )
    assert rows["lexicon", "k5", "strict.f1"]["why"] == "the cell has not been run"
    assert rows["lexicon", "k2", "strict.f1"]["why"] == "not comparable: oracle"
    assert {row["mean"] for key, row in rows.items() if key[:2] != ("lc-bert", "k2")} == {""}


def test_every_series_is_drawn_at_its_values(cells: dict[str, Any]) -> None:
    cells["toy/5-shot/lexicon/none"] = cells["toy/2-shot/lexicon/none"]
    found = elements(build("toy", spec(), cells))
    whole, gap = ((found[f"toy.{name}"].find(f"{SVG}path")) for name in ("lexicon", "lc-bert"))
    assert whole is not None and len(re.findall(r"[ML]", whole.attrib["d"])) == 2
    assert gap is None or len(re.findall("L", gap.attrib["d"])) == 0, "one point makes no line"
    markers = {name: list(found[f"toy.{name}"].iter(f"{SVG}use")) for name in ("lexicon", "lc-bert")}
    assert [len(markers[name]) for name in ("lexicon", "lc-bert")] == [2, 1]
    heights = [float(mark[0].attrib["y"]) for mark in markers.values()]
    means = [cells[f"toy/2-shot/{key}"]["metrics"]["strict.f1"]["mean"] for key in ("lexicon/none", "lc-bert/minilm")]
    assert means[0] < means[1] and heights[0] > heights[1], "higher is better, and y grows downwards"
    point = (heights[0] - heights[1]) / (means[1] - means[0])
    bar = next(found["toy.lc-bert.sd"].iter(f"{SVG}path")).attrib["d"]
    ys = [float(y) for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", bar)]
    sd = cells["toy/2-shot/lc-bert/minilm"]["metrics"]["strict.f1"]["sd"]
    assert max(ys) - min(ys) == pytest.approx(2 * sd * point, rel=0.01), "the error bar is one deviation to each side"


def test_bars_stand_before_each_other_and_gaps_stay_empty(cells: dict[str, Any]) -> None:
    found = elements(build("toy", spec(kind="bars", behind="span"), cells))
    order = [name for name in found if name.startswith("toy.lc-bert.k2")]
    assert order == ["toy.lc-bert.k2.span", "toy.lc-bert.k2.strict"], "the full bar is behind"

    def height(name: str) -> float:
        path = found[name].find(f"{SVG}path")
        ys = [float(y) for _, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.attrib["d"] if path is not None else "")]
        return max(ys) - min(ys) if ys else 0.0

    metrics = cells["toy/2-shot/lc-bert/minilm"]["metrics"]
    ratio = metrics["strict.f1"]["mean"] / metrics["span.f1"]["mean"]
    assert height("toy.lc-bert.k2.strict") / height("toy.lc-bert.k2.span") == pytest.approx(ratio, abs=0.01)
    assert all(height(name) == 0 for name in found if name.startswith("toy.lc-bert.k5"))


def test_it_fits_a_column_and_can_be_read(cells: dict[str, Any]) -> None:
    figure = build("toy", spec(), cells)
    width = ElementTree.fromstring(draw(figure, "svg")).attrib["width"]
    assert width == f"{WIDTH * 72:g}pt" == "237.6pt"
    png = draw(figure, "png")
    assert png.startswith(b"\x89PNG") and int.from_bytes(png[16:20], "big") == round(WIDTH * 300)
    assert min(v for k, v in STYLE.items() if k.endswith("size") and "major" not in k and "lines" not in k) >= 7
    assert len(set(COLOURS)) == len(COLOURS) == 8


def test_the_same_numbers_give_the_same_bytes(cells: dict[str, Any], results: Path, tmp_path: Path, root: Path) -> None:
    figure = build("toy", spec(), cells)
    assert all(draw(figure, form) == draw(figure, form) for form in ("svg", "png"))  # type: ignore[arg-type]
    assert b"<dc:date>" not in draw(figure, "svg")
    (tmp_path / "matplotlibrc").write_text("figure.facecolor: black\nxtick.color: red\nsvg.hashsalt: other\n")
    params = {"name": "toy", "figure": spec().model_dump(mode="json"), "blocked": {}}
    command = [sys.executable, str(root / "workflow/scripts/figure.py"), "--spec", json.dumps(params)]
    command += ["--results", str(results), "--output", str(tmp_path / "paper/toy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ, cwd=tmp_path)
    assert "figure toy: 2 of 4 numbers" in done.stderr
    assert sorted(p.name for p in (tmp_path / "paper").iterdir()) == ["toy.csv", "toy.png", "toy.svg"]
    same = from_params(params, results)
    for form in ("svg", "png"):
        assert (tmp_path / f"paper/toy.{form}").read_bytes() == draw(same, form)  # type: ignore[arg-type]


def test_a_cell_has_one_of_each_name() -> None:
    point = {"id": "k2", "title": "2", "setting": "2-shot"}
    with pytest.raises(ValidationError, match="toy/lexicon/k2 gives 2 names of a method, a cell has one"):
        spec(points=[{**point, "method": "lc-bert"}])
    with pytest.raises(ValidationError, match="toy/lexicon/k2 gives 0 names of a setting, a cell has one"):
        spec(points=[{"id": "k2", "title": "2"}])
    with pytest.raises(ValidationError, match="'behind' is for bars"):
        spec(behind="span")


def test_a_figure_without_any_cell_is_drawn() -> None:
    for kind in ("lines", "bars"):
        assert draw(build("toy", spec(kind=kind, printed=None), {}), "svg")
