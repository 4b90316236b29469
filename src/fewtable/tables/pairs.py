"""Pairs of rows -> tested differences, Holm's correction over all of a table's pairs and columns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fewtable.files import read_json
from fewtable.layouts import ERRORS, TableSpec, metric_key
from fewtable.scoring.compare import compare_all
from fewtable.scoring.units import draws_of
from fewtable.tables.model import CellFile, Comparison, Entry


def comparisons(
    spec: TableSpec,
    entries: Mapping[tuple[str, str], Entry],
    cells: Mapping[str, CellFile],
    results: Path,
) -> tuple[Comparison, ...]:
    """Test the pairs of ``spec.compare`` in every column where both rows have a comparable value and scores.

    Columns with a metric of their own are left out: one test has one metric.

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

    places, pairs = [], []
    for a, b in spec.compare:
        for column in spec.columns:
            left, right = entries[a, column.id], entries[b, column.id]
            if left.main is None or right.main is None or column.metric not in (None, spec.metric):
                continue
            first, second = draws(left.key), draws(right.key)
            if first is not None and second is not None:
                places.append((a, b, column.id))
                pairs.append((first, second))
    tested = compare_all(pairs, metric_key(spec.metric))
    parts: tuple[str, ...] = ("difference", "low", "high", "p", "p_holm")
    if spec.metric in ERRORS:
        parts += ("relative", "relative_low", "relative_high")
    return tuple(
        Comparison(*place, *(result[part] for part in parts)) for place, result in zip(places, tested, strict=True)
    )
