"""A table as data: what every renderer reads and none computes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fewtable.layouts import AverageSpec, ColumnSpec, RowSpec, TableSpec

Status = Literal["ok", "licence", "missing"]
CellFile = Mapping[str, Any]
"""The JSON of results/cells/DATASET/SETTING/METHOD/BACKBONE.json."""


REMARKS = {
    "episodes": "Draws are episodes: counts are summed over them, so there is no deviation between draws.",
    "empty-episodes": "Some episodes had nothing to find and nothing found",
    "sample-short": "A sample has fewer mentions of a type than asked for; the report shows the counts.",
}
"""Flags that a reader should know of and that leave the value comparable. Any other flag sets it apart."""
ORACLE = "oracle"
"""The flag of a cell whose method or setting tells what nobody knows."""


@dataclass(frozen=True)
class Value:
    """A mean over draws in percent; ``sd`` (sample) and the 95 % interval are None where undefined."""

    mean: float
    sd: float | None = None
    n: int | None = None
    low: float | None = None
    high: float | None = None


def measured(cell: CellFile | None, metric: str) -> Value | None:
    """Return a metric (``strict.f1``) of a cell, None where the cell is not there or has no such number."""
    found = ((cell or {}).get("metrics") or {}).get(metric)
    if found is None or found.get("mean") is None:
        return None
    return Value(*(found.get(part) for part in ("mean", "sd", "n", "low", "high")))


def apart(flags: Iterable[str]) -> tuple[str, ...]:
    """Return the flags that keep a value out of the main column."""
    return tuple(flag for flag in flags if flag.partition(":")[0] not in REMARKS)


@dataclass(frozen=True)
class Entry:
    """One cell of a table.

    ``value`` is None unless status is "ok". A flag that is not among REMARKS (an oracle, a leak switch, a peer's
    scorer) sets the value ``apart``: outside the main columns, without delta, never the best.
    """

    key: str
    """DATASET/SETTING/METHOD/BACKBONE; empty for an average."""
    status: Status
    metric: str
    value: Value | None = None
    printed: float | None = None
    printed_sd: float | None = None
    delta: float | None = None
    gain: float | None = None
    """The value minus that of the row's baseline in the same column, both ours."""
    gain_printed: float | None = None
    flags: tuple[str, ...] = ()
    marked: bool = False
    """Whether the column's setting is an oracle: the column says so, and its values are compared with one another."""
    best: bool = False

    @property
    def apart(self) -> tuple[str, ...]:
        """The flags that keep the value out of the main column."""
        return apart(flag for flag in self.flags if not (self.marked and flag == ORACLE))

    @property
    def has_printed(self) -> bool:
        """Whether a paper printed the value, or its gain."""
        return self.printed is not None or self.gain_printed is not None

    @property
    def main(self) -> Value | None:
        """The value, unless a flag keeps it out of the main column."""
        return None if self.apart else self.value


@dataclass(frozen=True)
class Comparison:
    """Row ``a`` minus row ``b`` in a column, tested on the same query sentences (methods/fs-13, A and C)."""

    a: str
    b: str
    column: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    relative: float | None = None
    """The difference in percent of B's value, with its interval; only of error rates."""
    relative_low: float | None = None
    relative_high: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the difference may be claimed: interval without 0 and corrected p below .05."""
        return self.p_holm < 0.05 and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Table:
    """A table ready to be rendered."""

    name: str
    spec: TableSpec
    entries: Mapping[tuple[str, str], Entry]
    """(row id, column id) -> entry, for every pair."""
    marks: Mapping[str, tuple[str, ...]]
    """Row id, ``/column`` or ``row/column`` -> footnote marks."""
    footnotes: tuple[tuple[str, str], ...] = ()
    """(mark, text)."""
    lines: tuple[tuple[str, str], ...] = ()
    """The line under the table: (label, text)."""
    comparisons: tuple[Comparison, ...] = ()
    cells: Mapping[str, CellFile] = field(default_factory=dict)
    """Key -> cell, for the cells that are there."""
    oracles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """``row/column`` -> what the cell is told that nobody knows; ``/column`` -> what the column's setting tells."""

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Runs of columns with one group title: (title, number of columns)."""
        out: list[tuple[str, int]] = []
        for column in self.spec.shown:
            if out and out[-1][0] == column.group:
                out[-1] = (column.group, out[-1][1] + 1)
            else:
                out.append((column.group, 1))
        return out

    @property
    def apart(self) -> list[RowSpec]:
        """The rows with at least one value set apart."""
        return [r for r in self.spec.rows if any(e.apart and e.value for e in self.row(r.id))]

    @property
    def uniform_n(self) -> int | None:
        """The number of draws, when it is the same in all cells."""
        found = {e.value.n for e in self.entries.values() if e.value and e.key}
        return found.pop() if len(found) == 1 else None

    def row(self, row: str) -> list[Entry]:
        """Return a row's entries in the order of the columns."""
        return [self.entries[row, column.id] for column in self.spec.shown]

    def row_title(self, row: str) -> str:
        """Return a row's title by its id."""
        return next(r.title for r in self.spec.rows if r.id == row)

    def column_title(self, column: str) -> str:
        """Return a column's full title (group and title) by its id."""
        return full_title(next(c for c in self.spec.shown if c.id == column))

    def has_printed(self, row: str) -> bool:
        """Return whether a paper printed a value for one of the row's cells."""
        return any(e.has_printed for e in self.row(row))


def full_title(column: ColumnSpec | AverageSpec) -> str:
    """Return group and title of a column as one text."""
    return f"{column.group}, {column.title}" if column.group else column.title


def number(value: float | None, digits: int = 1, sign: bool = False) -> str:
    """Return a figure as the tables print it: one decimal, a true minus sign, nothing for None."""
    if value is None:
        return ""
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-", "−")


def spread(mean: float | None, sd: float | None) -> str:
    """Return ``mean ± sd``, or the mean alone."""
    return number(mean) if sd is None else f"{number(mean)} ± {number(sd)}"


def absent_text(entry: Entry, missing: str = "–") -> str:
    """Return what stands in the place of a value that the main column does not have."""
    return "see below" if entry.apart else ("licence" if entry.status == "licence" else missing)


def p_value(p: float) -> str:
    """Return a p value as the tables print it."""
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")
