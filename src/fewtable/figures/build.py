"""Cells + spec -> the numbers of a figure, each with where it stands and why it is missing."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from fewtable.figures.agreement import measured_agreement
from fewtable.files import read_json
from fewtable.layouts import FigureSpec, Metric, Printed, metric_key
from fewtable.registry import validate
from fewtable.tables.model import CellFile, Value, apart, measured
from fewtable.tables.text import csv_number

CSV_COLUMNS = (
    *("panel", "series", "point", "dataset", "setting", "method", "backbone", "baseline", "metric"),
    *("mean", "sd", "n", "low", "high", "printed", "printed_sd", "status", "why"),
)
NOT_RUN = "the cell has not been run"


@dataclass(frozen=True)
class Mark:
    """One number of a figure: a metric of the cell where a panel, a series and a point meet, or made of several."""

    panel: str
    series: str
    point: str
    key: str
    """DATASET/SETTING/METHOD/BACKBONE; of several datasets the number of them in place of one."""
    metric: str
    value: Value | None
    """None where there is nothing to draw."""
    why: str = ""
    """Why there is nothing to draw."""
    printed: Printed = (None, None)
    baseline: str = ""
    """The method whose value was taken off."""

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
    name: str,
    spec: FigureSpec,
    cells: Mapping[str, CellFile],
    blocked: Mapping[str, str] | None = None,
    results: Path = Path("results"),
) -> Figure:
    """Put the numbers of a figure together.

    Args:
        name: the figure's name.
        spec: its panels, series and points.
        cells: cell key -> cell.
        blocked: the place of a cell -> why it can't be made here.
        results: the folder with the predictions of the runs whose agreement is measured.

    Raises:
        DataError: an agreement is measured, and a run's predictions are not there or malformed.
    """
    marks = []
    agreements = {point.id for point in spec.points if point.number == "agreement"}
    baselines = {series.id: series.baseline or "" for series in spec.series}
    for place, made_of in spec.made_of.items():
        panel, series, point = place.split("/")
        values = spec.printed.values if spec.printed else {}
        for metric in spec.metrics:
            whys = {f"{place}{more}": _why(cells.get(key), metric_key(metric)) for more, key in made_of.items()}
            value = None
            if not any(whys.values()):
                agreed = point in agreements
                value = _agreed(made_of, cells, results) if agreed else _value(made_of, cells, metric_key(metric))
            printed = values.get(panel, {}).get(series, {}).get(point, (None, None))
            marks.append(
                Mark(
                    *(panel, series, point, _key(made_of), metric_key(metric), value),
                    why=_missing(place, whys, blocked or {}),
                    printed=printed if metric == spec.metric else (None, None),
                    baseline=baselines[series],
                )
            )
    return Figure(name, spec, tuple(marks))


def _own(made_of: Mapping[str, str]) -> list[str]:
    return [key for more, key in made_of.items() if not more.endswith("/baseline")]


def _key(made_of: Mapping[str, str]) -> str:
    own = _own(made_of)
    return own[0] if "" in made_of else f"{len(own)} datasets/{own[0].partition('/')[2]}"


def _why(cell: CellFile | None, metric: str) -> str:
    """Say why a cell has no value to draw, nothing where it has one."""
    if flags := apart((cell or {}).get("flags") or ()):
        return f"not comparable: {', '.join(flags)}"
    return "" if measured(cell, metric) else NOT_RUN


def _missing(place: str, whys: Mapping[str, str], blocked: Mapping[str, str]) -> str:
    """Say why a number is missing: of several datasets, each reason after the names of those that it holds for."""
    reasons: dict[str, list[str]] = {}
    for cell, why in whys.items():
        if why:
            reasons.setdefault(blocked.get(cell, why), []).append(cell.removeprefix(place).strip("/"))
    texts = []
    for reason in sorted(reasons, key=lambda reason: not reason.startswith("licence")):  # the status is the first's
        names = ", ".join(filter(None, reasons[reason]))
        texts.append(f"{reason} ({names})" if names else reason)
    return "; ".join(texts)


def _value(made_of: Mapping[str, str], cells: Mapping[str, CellFile], metric: str) -> Value | None:
    """Return the value of the one cell, or the mean over the datasets of values or differences to the baseline."""
    if list(made_of) == [""]:
        return measured(cells[made_of[""]], metric)
    means = {more: found.mean for more, key in made_of.items() if (found := measured(cells[key], metric))}
    return Value(
        fmean(
            mean - means.get(f"{more}/baseline", 0.0) for more, mean in means.items() if not more.endswith("baseline")
        )
    )


def _agreed(made_of: Mapping[str, str], cells: Mapping[str, CellFile], results: Path) -> Value:
    return Value(measured_agreement({key: cells[key] for key in _own(made_of)}, results))


def from_params(params: Mapping[str, Any], results: Path) -> Figure:
    """Put together the figure that the plan's params describe, from the cells below ``results`` that are there."""
    spec = validate(FigureSpec, params["figure"], f"figure {params['name']}")
    blocked = params.get("blocked") or {}
    keys = dict.fromkeys(key for place, key in spec.cells.items() if place not in blocked)
    paths = {key: results / "cells" / f"{key}.json" for key in keys}
    cells = {key: read_json(path) for key, path in paths.items() if path.exists()}
    return build(params["name"], spec, cells, blocked, results)


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
                *(mark.panel, mark.series, mark.point, *mark.key.split("/"), mark.baseline, mark.metric),
                *(csv_number(number) for number in numbers),
                *(mark.status, mark.why),
            ]
        )
    return stream.getvalue()
