"""How big the datasets are, counted on the data, beside the counts that a paper prints: a table of its own kind."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from fewtable.corpus import read_sentences
from fewtable.data.stats import SplitStats, split_stats
from fewtable.layouts import CorpusSpec, CountSpec, StatisticsSpec
from fewtable.registry import validate
from fewtable.tables.text import csv_number

CSV_COLUMNS = (
    *("row", "row_title", "group", "dataset", "column", "column_title", "count", "splits"),
    *("value", "printed", "delta", "status", "why"),
)
MEANS = ("tokens", "entities")
"""Counts that are shown as the mean of a sentence."""


@dataclass(frozen=True)
class Count:
    """One count: the value, None with a reason where there is none, and the paper's."""

    value: float | None
    printed: float | None
    splits: tuple[str, ...] = ()
    why: str = ""

    @property
    def status(self) -> str:
        """``ok``, ``licence`` or ``missing``, as in tables of cells."""
        return "ok" if self.value is not None else ("licence" if self.why.startswith("licence") else "missing")

    @property
    def delta(self) -> float | None:
        """Ours minus the printed one."""
        return None if self.value is None or self.printed is None else self.value - self.printed


@dataclass(frozen=True)
class Statistics:
    """A table of statistics ready to be rendered."""

    name: str
    spec: StatisticsSpec
    counts: Mapping[tuple[str, str], Count]
    """(row id, column id) -> count, for every pair."""

    @property
    def notes(self) -> list[tuple[str, str]]:
        """(row title, text): the rows' notes, then why counts are missing: of reasons of one kind the longest."""
        out = [(row.title, row.note.strip()) for row in self.spec.rows if row.note]
        for row in self.spec.rows:
            longest: dict[str, str] = {}
            for column in self.spec.columns:
                why = self.counts[row.id, column.id].why
                kind = why.partition(":")[0]
                if len(why) > len(longest.get(kind, "")):
                    longest[kind] = why
            out += [(row.title, why) for why in longest.values()]
        return out


def from_params(params: Mapping[str, Any], results: Path) -> Statistics:
    """Count what the plan's params describe, on the data files below ``results``.

    Args:
        params: name, statistics (the spec), splits (place ``row/column`` -> splits counted there), missing
            (place -> why its files can't be had).
        results: the results folder.
    """
    spec = validate(StatisticsSpec, params["statistics"], f"statistics {params['name']}")
    found: dict[tuple[str, str], SplitStats] = {}
    counts = {}
    for row, column in product(spec.rows, spec.columns):
        place = f"{row.id}/{column.id}"
        printed = spec.printed.values.get(row.id, {}).get(column.id) if spec.printed else None
        splits, why = tuple(params["splits"][place]), params["missing"].get(place, "")
        if why or not splits:
            why = why or f"it has no split {' or '.join(column.splits)}"
            counts[row.id, column.id] = Count(None, printed, splits, why)
            continue
        for split in splits:
            if (row.dataset, split) not in found:
                found[row.dataset, split] = _stats(results / "data" / row.dataset / f"{split}.jsonl", split)
        stats = [found[row.dataset, split] for split in splits]
        counts[row.id, column.id] = Count(count(column, stats), printed, splits)
    return Statistics(params["name"], spec, counts)


def _stats(path: Path, split: str) -> SplitStats:
    """Count a split; its types are those with a mention."""
    sentences = read_sentences(path)
    return split_stats(split, sentences, sorted({entity.type for s in sentences for entity in s.entities}))


def count(column: CountSpec, stats: Sequence[SplitStats]) -> float:
    """Return what a column counts over splits: sentences, types with a mention, tokens or entities a sentence."""
    sentences = sum(s.sentences for s in stats)
    if column.count == "sentences":
        return sentences
    if column.count == "types":
        return len({name for s in stats for name in s.types})
    total = sum(s.tokens if column.count == "tokens" else s.entities for s in stats)
    return total / sentences if sentences else 0.0


def row_label(row: CorpusSpec) -> str:
    """Return a row's title, with its group before it where it has one."""
    return f"{row.group}: {row.title}" if row.group else row.title


def shown(column: CountSpec, value: float) -> str:
    """Return a count as the tables print it: whole with separators, a mean with one decimal."""
    return f"{value:.1f}" if column.count in MEANS else f"{value:,.0f}"


def lines(table: Statistics) -> list[tuple[str, str]]:
    """Return the (label, text) pairs under the table."""
    out = [
        ("Counts", "made on the normalised data of this project; types are those with a mention in the splits counted.")
    ]
    if table.spec.printed:
        out.append(("Printed", f"{table.spec.printed.source}; it stands in square brackets where it differs."))
    return out


def cell_text(table: Statistics, row: str, column: CountSpec) -> str:
    """Return a count, and in square brackets the printed one: where it differs, or where there is no count."""
    found = table.counts[row, column.id]
    text = shown(column, found.value) if found.value is not None else ("licence" if found.status == "licence" else "–")
    if found.printed is None:
        return text
    printed = shown(column, found.printed)
    return text if text == printed else f"{text} [{printed}]"


def render_csv(table: Statistics) -> str:
    """Return the counts as CSV, one line a count."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row, column in product(table.spec.rows, table.spec.columns):
        found = table.counts[row.id, column.id]
        names = (
            row.id,
            row.title,
            row.group,
            row.dataset,
            column.id,
            column.title,
            column.count,
            "+".join(found.splits),
        )
        numbers = (found.value, found.printed, found.delta)
        writer.writerow([*names, *map(csv_number, numbers), found.status, found.why])
    return stream.getvalue()
