"""Everything the report shows, read from the results folder by path."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fewtable.errors import DataError
from fewtable.files import read_json, read_jsonl
from fewtable.layouts import cell_key
from fewtable.report.answers import Answers, Reader
from fewtable.report.curves import Curve, loss_svg
from fewtable.tables import Table, from_params, read_cells
from fewtable.tables.lines import checkpoint_choice, data_text, sample_text
from fewtable.tables.model import CellFile, full_title

DRAWS = 20
"""Most draws of a cell whose figures stand one by one (episodic cells have hundreds)."""


SHOWN_METRICS = (
    ("strict.f1", "F1"),
    ("strict.precision", "Precision"),
    ("strict.recall", "Recall"),
    ("strict_halluc.f1", "F1, unmatched as errors"),
    ("strict.macro_f1", "Macro F1"),
    ("span.f1", "Span F1"),
    ("partial.f1", "Partial F1"),
    ("peer.uniner.f1", "String F1 (UniversalNER's scorer)"),
    ("boundary.ber", "Boundary errors"),
    ("episode.f1", "Episode F1"),
)
"""The metrics of a cell's section, in order, with their column heads."""


@dataclass(frozen=True)
class CellView:
    """A cell with all that its section shows."""

    key: str
    title: str
    """The row's title in the first table that shows the cell."""
    cell: CellFile
    answers: Answers | None
    curve: Markup
    spec: str
    """The resolved spec as indented JSON."""
    tracked: tuple[tuple[str, str], ...]
    """(what, MLflow run id or status)."""

    @property
    def anchor(self) -> str:
        """The id of the cell's section."""
        return f"cell-{self.key.replace('/', '_')}"

    @property
    def draws(self) -> list[str]:
        """The draws whose figures are listed."""
        return [str(draw) for draw in self.cell["draws"]][:DRAWS]

    @property
    def shown_metrics(self) -> list[tuple[str, str]]:
        """(metric, column head) of the metrics that the cell has; episodes' mean F1 only where draws are episodes."""
        episodes = "episodes" in self.cell["flags"]
        return [(n, t) for n, t in SHOWN_METRICS if n in self.cell["metrics"] and (n != "episode.f1" or episodes)]

    @property
    def checkpoint(self) -> str:
        """Which checkpoint the run kept."""
        return checkpoint_choice(self.cell["spec"])

    @property
    def peers(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Peers' scorers by name, for tracing published numbers."""
        found = sorted(name for name in self.cell["metrics"] if name.startswith("peer."))
        return [(name.removeprefix("peer.").removesuffix(".f1"), self.cell["metrics"][name]) for name in found]


@dataclass
class ColumnView:
    """The cells of one dataset in one setting, and the samples that they share."""

    title: str
    dataset: str
    setting: str
    cells: list[CellView] = field(default_factory=list)

    @property
    def samples(self) -> Mapping[str, Mapping[str, Any]]:
        """Draw -> header of the sample, for the draws that are listed."""
        first = self.cells[0]
        return {draw: first.cell["samples"][draw] for draw in first.draws if draw in first.cell["samples"]}

    @property
    def counted(self) -> list[str]:
        """The types that the samples count, in the order of the dataset."""
        known = {name for header in self.samples.values() for name in header.get("counts") or {}}
        return [name for name in self.cells[0].cell["types"] if name in known]

    @property
    def text(self) -> str:
        """How the samples were drawn, and from which data."""
        cell = self.cells[0].cell
        return f"{sample_text(cell)}. Data version {data_text(cell)}."


@dataclass(frozen=True)
class Contents:
    """The report's contents."""

    tables: tuple[Table, ...]
    columns: tuple[ColumnView, ...]

    @property
    def cells(self) -> list[CellView]:
        """All cells, column by column."""
        return [cell for column in self.columns for cell in column.cells]


def collect(tables: Iterable[Mapping[str, Any]], results: Path) -> Contents:
    """Read what the tables show.

    Args:
        tables: the plan's params of each table (name, table, notes, blocked).
        results: the results folder.
    """
    cells: dict[str, CellFile] = {}
    built: list[Table] = []
    columns: dict[tuple[str, str], ColumnView] = {}
    reader = Reader(results)
    for params in tables:
        cells |= {key: cell for key, cell in read_cells(params, results).items() if key not in cells}
        table = from_params(params, cells.values(), results)
        built.append(table)
        for column in table.spec.columns:
            for row in table.spec.rows:
                key = cell_key(row, column)
                place = (column.dataset, row.setting or column.setting)
                view = columns.setdefault(place, ColumnView(full_title(column), *place))
                if key in table.cells and all(cell.key != key for cell in view.cells):
                    view.cells.append(_view(key, row.title, table.cells[key], results, reader))
    return Contents(tuple(built), tuple(view for view in columns.values() if view.cells))


def _view(key: str, title: str, cell: CellFile, results: Path, reader: Reader) -> CellView:
    return CellView(
        key,
        title,
        cell,
        reader.answers(cell, key),
        loss_svg(_curves(cell, results / "runs" / key)),
        json.dumps(cell["spec"], ensure_ascii=False, indent=2),
        _tracked(results / "tracking" / f"{key}.json"),
    )


def _curves(cell: CellFile, run: Path) -> dict[int, Curve]:
    curves: dict[int, Curve] = {}
    for block in cell["blocks"]:
        for draw in cell["draws"]:
            path = run / block / "model" / str(draw) / "train.jsonl"
            if len(curves) < DRAWS and path.exists():
                rows = [row for _, row in read_jsonl(path) if row.get("loss") is not None]
                curves[draw] = [(float(row["step"]), float(row["loss"])) for row in rows]
    return curves


def _tracked(path: Path) -> tuple[tuple[str, str], ...]:
    try:
        value = read_json(path)
    except DataError:
        return ()
    if "run_id" not in value:
        return (("status", f"{value.get('status', 'unknown')}: {value.get('why', '')}"),)
    draws = value.get("draws") or {}
    runs = draws.items() if isinstance(draws, Mapping) else enumerate(draws, 1)
    return (
        ("experiment", str(value.get("experiment", ""))),
        ("run of the cell", str(value["run_id"])),
        *((f"run of draw {draw}", str(run)) for draw, run in list(runs)[:DRAWS]),
    )
