"""Pairs of rows -> tested differences, Holm's correction over all of a table's pairs and columns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fewtable.files import read_json
from fewtable.layouts import ERRORS, AverageSpec, TableSpec, metric_key
from fewtable.scoring.compare import compare_all
from fewtable.scoring.units import draws_of
from fewtable.tables.model import CellFile, Comparison, Entry


def comparisons(
    spec: TableSpec,
    entries: Mapping[tuple[str, str], Entry],
    cells: Mapping[str, CellFile],
    results: Path,
) -> tuple[Comparison, ...]:
    """Test the pairs of ``spec.compare`` in each column and average where both rows have comparable values and scores.

    Columns with a metric of their own, and averages of such, are left out: one test has one metric.

    Raises:
        DataError: two rows of a column were asked other sentences or drawn otherwise.
    """

    @cache
    def draws(key: str) -> Mapping[int, Mapping[str, Any]] | None:
        cell = cells[key]
        files = [results / "runs" / key / block / f"scores.{cell['query']}.json" for block in cell["blocks"]]
        if not all(file.exists() for file in files):
            return None
        return draws_of([read_json(file) for file in files], [str(file) for file in files])

    own = [column.id for column in spec.columns if column.metric in (None, spec.metric)]
    places, families = [], []
    for a, b in spec.compare:
        for shown in spec.shown:
            columns = (shown.over or shown.columns) if isinstance(shown, AverageSpec) else (shown.id,)
            both = [(entries[a, column], entries[b, column]) for column in columns]
            if not set(columns) <= set(own) or any(one.main is None for pair in both for one in pair):
                continue
            pairs = [(draws(left.key), draws(right.key)) for left, right in both]
            found = [(left, right) for left, right in pairs if left is not None and right is not None]
            if len(found) == len(pairs):
                places.append((a, b, shown.id))
                families.append(found)
    tested = compare_all(families, metric_key(spec.metric))
    parts: tuple[str, ...] = ("difference", "low", "high", "p", "p_holm")
    if spec.metric in ERRORS:
        parts += ("relative", "relative_low", "relative_high")
    return tuple(
        Comparison(*place, *(result[part] for part in parts)) for place, result in zip(places, tested, strict=True)
    )
