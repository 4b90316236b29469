"""Cells + spec -> the numbers of a figure, each with where it stands and why it is missing."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewtable.files import read_json
from fewtable.layouts import FigureSpec, Metric, Printed, metric_key
from fewtable.registry import validate
from fewtable.tables.model import CellFile, Value, apart, measured
from fewtable.tables.text import csv_number

CSV_COLUMNS = (
    *("panel", "series", "point", "dataset", "setting", "method", "backbone", "metric"),
    *("mean", "sd", "n", "low", "high", "printed", "printed_sd", "status", "why"),
)
NOT_RUN = "the cell has not been run"


@dataclass(frozen=True)
class Mark:
    """One number of a figure: a metric of the cell where a panel, a series and a point meet."""

    panel: str
    series: str
    point: str
    key: str
    """DATASET/SETTING/METHOD/BACKBONE."""
    metric: str
    value: Value | None
    """None where there is nothing to draw."""
    why: str = ""
    """Why there is nothing to draw."""
    printed: Printed = (None, None)

    @property
    def status(self) -> str:
        """``ok``, ``licence`` or ``missing``, as in tables."""
        return "ok" if self.value else ("licence" if self.why.startswith("licence") else "missing")


@dataclass(frozen=True)
class Figure:
    """A figure ready to be drawn."""

    name: str
    spec: FigureSpec
    marks: tuple[Mark, ...]

    def line(self, panel: str, series: str, metric: Metric) -> list[Mark]:
        """Return the marks of a series in a panel, in the order of the points."""
        return [m for m in self.marks if (m.panel, m.series, m.metric) == (panel, series, metric_key(metric))]


def build(
    name: str, spec: FigureSpec, cells: Mapping[str, CellFile], blocked: Mapping[str, str] | None = None
) -> Figure:
    """Put the numbers of a figure together.

    Args:
        name: the figure's name.
        spec: its panels, series and points.
        cells: cell key -> cell.
        blocked: ``panel/series/point`` -> why the cell can't be made here.
    """
    marks = []
    for place, key in spec.cells.items():
        panel, series, point = place.split("/")
        values = spec.printed.values if spec.printed else {}
        for metric in spec.metrics:
            cell = cells.get(key)
            flags = apart((cell or {}).get("flags") or ())
            value = None if flags else measured(cell, metric_key(metric))
            why = f"not comparable: {', '.join(flags)}" if flags else (blocked or {}).get(place, NOT_RUN)
            printed = values.get(panel, {}).get(series, {}).get(point, (None, None))
            marks.append(
                Mark(
                    *(panel, series, point, key, metric_key(metric), value),
                    why="" if value else why,
                    printed=printed if metric == spec.metric else (None, None),
                )
            )
    return Figure(name, spec, tuple(marks))


def from_params(params: Mapping[str, Any], results: Path) -> Figure:
    """Put together the figure that the plan's params describe, from the cells below ``results`` that are there."""
    spec = validate(FigureSpec, params["figure"], f"figure {params['name']}")
    blocked = params.get("blocked") or {}
    keys = dict.fromkeys(key for place, key in spec.cells.items() if place not in blocked)
    paths = {key: results / "cells" / f"{key}.json" for key in keys}
    cells = {key: read_json(path) for key, path in paths.items() if path.exists()}
    return build(params["name"], spec, cells, blocked)


def render_csv(figure: Figure) -> str:
    """Return the numbers of a figure as CSV, in percent: one line a mark, with why it is missing."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for mark in figure.marks:
        value = mark.value or Value(mean=float("nan"))
        numbers = (value.mean, value.sd, value.n, value.low, value.high, *mark.printed)
        writer.writerow(
            [
                *(mark.panel, mark.series, mark.point, *mark.key.split("/"), mark.metric),
                *(csv_number(number) for number in numbers),
                *(mark.status, mark.why),
            ]
        )
    return stream.getvalue()
