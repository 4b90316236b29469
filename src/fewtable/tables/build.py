"""Cells + spec -> table: values, printed values and deltas, best per column, footnotes, tested pairs."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from fewtable.files import read_json
from fewtable.layouts import (
    ERRORS,
    AverageSpec,
    ColumnSpec,
    Printed,
    RowSpec,
    TableSpec,
    baseline_key,
    cell_key,
    metric_key,
)
from fewtable.registry import validate
from fewtable.tables.lines import lines
from fewtable.tables.model import ORACLE, REMARKS, CellFile, Entry, Table, Value, measured
from fewtable.tables.pairs import comparisons

MISSING = "These cells have not been run yet."


def build(
    name: str,
    spec: TableSpec,
    cells: Iterable[CellFile],
    blocked: Mapping[str, str] | None = None,
    notes: Mapping[str, str | None] | None = None,
    results: Path | None = None,
    oracles: Mapping[str, Sequence[str]] | None = None,
) -> Table:
    """Put a table together.

    Args:
        name: the table's name.
        spec: its rows, columns and printed values.
        cells: cell files; those the table does not show are passed over.
        blocked: ``row/column`` -> ``licence: ...`` or ``data: ...``, what is missing and how to get it.
        notes: method -> the note that stands under every table that shows it.
        results: the results folder, whose score files the pairs in ``spec.compare`` are tested on; without
            it no pair is tested.
        oracles: ``row/column`` -> what the cell is told that nobody knows; ``/column`` -> what the column's setting
            tells all its rows.
    """
    blocked, notes, oracles = blocked or {}, notes or {}, oracles or {}
    wanted = set(spec.cells.values())
    by_key = {
        key: cell
        for cell in cells
        if (key := f"{cell['dataset']}/{cell['setting']}/{cell['method']}/{cell['backbone']}") in wanted
    }
    entries = {
        (row.id, column.id): _entry(spec, row, column, by_key, blocked, marked=f"/{column.id}" in oracles)
        for row, column in product(spec.rows, spec.columns)
    }
    for row, average in product(spec.rows, spec.averages):
        entries[row.id, average.id] = _average(spec, row, average, entries)
    _mark_best(spec, entries)
    marks, footnotes = _footnotes([*_told(spec, oracles), *_notes(spec, entries, blocked, notes)])
    tested = comparisons(spec, entries, by_key, results) if results else ()
    told = {place: tuple(texts) for place, texts in oracles.items()}
    return Table(name, spec, entries, marks, footnotes, lines(spec, by_key), tested, by_key, told)


def from_params(params: Mapping[str, Any], cells: Iterable[CellFile], results: Path | None = None) -> Table:
    """Put together the table that the plan's params describe: name, table, notes and blocked cells."""
    spec = validate(TableSpec, params["table"], f"table {params['name']}")
    return build(
        params["name"], spec, cells, params.get("blocked"), params.get("notes"), results, params.get("oracles")
    )


def read_cells(params: Mapping[str, Any], results: Path) -> dict[str, CellFile]:
    """Return the cell files of a table that are there, by key; blocked cells are not looked for."""
    spec = validate(TableSpec, params["table"], f"table {params['name']}")
    blocked = params.get("blocked") or {}
    keys = dict.fromkeys(key for place, key in spec.cells.items() if place not in blocked)
    paths = {key: results / "cells" / f"{key}.json" for key in keys}
    return {key: read_json(path) for key, path in paths.items() if path.exists()}


def _entry(
    spec: TableSpec,
    row: RowSpec,
    column: ColumnSpec,
    cells: Mapping[str, CellFile],
    blocked: Mapping[str, str],
    *,
    marked: bool,
) -> Entry:
    key, metric = cell_key(row, column), metric_key(spec.metric_of(column))
    printed, printed_sd = _printed(spec, row, column)
    gain_printed = spec.printed.gains.get(row.id, {}).get(column.id) if spec.printed else None
    entry = Entry(
        key, "missing", metric, printed=printed, printed_sd=printed_sd, gain_printed=gain_printed, marked=marked
    )
    value = measured(cells.get(key), metric)
    if value is None:
        reason = blocked.get(f"{row.id}/{column.id}", "")
        return replace(entry, status="licence") if reason.startswith("licence") else entry
    entry = replace(entry, status="ok", value=value, flags=tuple(sorted(cells[key].get("flags") or ())))
    if entry.apart:
        return entry
    delta = None if printed is None else value.mean - printed
    baseline = cells.get(baseline_key(row, column) or "")
    comparable = baseline and not replace(entry, flags=tuple(baseline.get("flags") or ())).apart
    return replace(entry, delta=delta, gain=_gain(value, baseline if comparable else None, metric))


def _printed(spec: TableSpec, row: RowSpec, column: ColumnSpec | AverageSpec) -> Printed:
    values = spec.printed.values if spec.printed else {}
    return values.get(row.id, {}).get(column.id, (None, None))


def _average(spec: TableSpec, row: RowSpec, average: AverageSpec, entries: Mapping[tuple[str, str], Entry]) -> Entry:
    """Return the mean of a row's values in the averaged columns; without a value where one of them has none.

    A mean over fewer columns than the paper's has no difference to the printed one.
    """
    averaged = [entries[row.id, column] for column in average.over or average.columns]
    printed, printed_sd = _printed(spec, row, average)
    gain_printed = spec.printed.gains.get(row.id, {}).get(average.id) if spec.printed else None
    entry = Entry("", "missing", averaged[0].metric, printed=printed, printed_sd=printed_sd, gain_printed=gain_printed)
    means = [one.main.mean for one in averaged if one.main]
    if len(means) < len(averaged):
        return entry
    mean, gains = fmean(means), [one.gain for one in averaged if one.gain is not None]
    gain = fmean(gains) if len(gains) == len(averaged) else None
    delta = None if printed is None or average.over else mean - printed
    return replace(entry, status="ok", value=Value(mean), delta=delta, gain=gain)


def _gain(value: Value, baseline: CellFile | None, metric: str) -> float | None:
    base = measured(baseline, metric)
    return None if base is None else value.mean - base.mean


def _mark_best(spec: TableSpec, entries: dict[tuple[str, str], Entry]) -> None:
    """Mark the best value of every column with two or more values, ties (as printed) together."""
    for column in spec.shown:
        shown = {
            row.id: round(entry.main.mean, 1)
            for row in spec.rows
            if (entry := entries[row.id, column.id]).main is not None
        }
        errors = entries[spec.rows[0].id, column.id].metric in map(metric_key, ERRORS)
        best = (min if errors else max)(shown.values(), default=None)
        for row, mean in shown.items():
            if len(shown) > 1 and mean == best:
                entries[row, column.id] = replace(entries[row, column.id], best=True)


def _footnotes(
    notes: Iterable[tuple[str, str]],
) -> tuple[dict[str, tuple[str, ...]], tuple[tuple[str, str], ...]]:
    """Give each note a mark, in their order."""
    texts: list[str] = []
    marks: dict[str, list[str]] = {}
    for place, text in notes:
        if text not in texts:
            texts.append(text)
        mark = _mark(texts.index(text))
        if mark not in marks.setdefault(place, []):
            marks[place].append(mark)
    return (
        {place: tuple(found) for place, found in marks.items()},
        tuple((_mark(index), text) for index, text in enumerate(texts)),
    )


def _told(spec: TableSpec, oracles: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Yield (/column, text) and (row id, text) of what settings and methods tell that nobody knows."""
    for column in spec.columns:
        yield from ((f"/{column.id}", f"Oracle: {text}") for text in oracles.get(f"/{column.id}", ()))
    for row, column in product(spec.rows, spec.columns):
        own = (t for t in oracles.get(f"{row.id}/{column.id}", ()) if t not in oracles.get(f"/{column.id}", ()))
        yield from ((row.id, f"Oracle: {text}") for text in own)


def _notes(
    spec: TableSpec,
    entries: Mapping[tuple[str, str], Entry],
    blocked: Mapping[str, str],
    notes: Mapping[str, str | None],
) -> Iterator[tuple[str, str]]:
    """Yield (row id or row/column, text)."""
    for row in spec.rows:
        yield from ((row.id, text.strip()) for text in (notes.get(row.method), row.note) if text)
    for (row_id, column), entry in entries.items():
        if not entry.key:  # an average says nothing that its cells do not
            continue
        place = f"{row_id}/{column}"
        yield from ((place, remark(flag)) for flag in entry.flags if flag not in (ORACLE, *entry.apart))
        if entry.apart:
            text = f"Not comparable, kept out of the main columns: {', '.join(entry.apart)}."
            yield from ((row_id, text), (place, text))
        elif entry.status == "licence":
            yield place, f"A corpus that must be licensed is not there ({blocked[place]})."
        elif entry.status == "missing" and place in blocked:
            yield place, f"A corpus is not there ({blocked[place]})."
        elif entry.status == "missing":
            yield place, MISSING


def remark(flag: str) -> str:
    """Say what a flag of REMARKS means; ``NAME:NUMBER`` names how many."""
    name, _, number = flag.partition(":")
    return f"{REMARKS[name]} ({number})." if number else REMARKS[name]


def _mark(index: int) -> str:
    """Return a, b, ..., z, aa, bb, ..."""
    letters = string.ascii_lowercase
    return letters[index % len(letters)] * (index // len(letters) + 1)
