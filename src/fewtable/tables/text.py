"""A table as CSV (numbers in columns of their own, one line a cell) and as Markdown."""

from __future__ import annotations

import csv
import io
import re

from fewtable.tables.model import Comparison, Entry, Table, Value, absent_text, full_title, number, p_value, spread

CSV_COLUMNS = (
    *("row", "row_title", "method", "backbone", "column", "column_title", "dataset", "setting", "metric"),
    *("mean", "sd", "n", "low", "high", "printed", "printed_sd", "delta", "gain", "gain_printed"),
    *("status", "flags", "flagged_mean", "flagged_sd", "oracle"),
)
"""A flagged value stands in ``flagged_mean`` alone, so that who reads ``mean`` never takes it for a comparable one."""


def render_csv(table: Table) -> str:
    """Return the table as CSV, in percent, empty where there is no number."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in table.spec.rows:
        for column in table.spec.shown:
            entry = table.entries[row.id, column.id]
            names = entry.key.split("/") if entry.key else ("", "", row.method, row.backbone)
            dataset, setting, method, backbone = names
            main = entry.main or Value(mean=float("nan"))
            apart = entry.value if entry.apart else None
            writer.writerow(
                [
                    *(row.id, row.title, method, backbone),
                    *(column.id, full_title(column), dataset, setting, entry.metric),
                    *(csv_number(v) for v in (main.mean, main.sd, main.n, main.low, main.high)),
                    *(csv_number(v) for v in (entry.printed, entry.printed_sd, entry.delta)),
                    *(csv_number(v) for v in (entry.gain, entry.gain_printed)),
                    *(entry.status, "; ".join(entry.flags)),
                    *(csv_number(v) for v in ((apart.mean, apart.sd) if apart else (None, None))),
                    " ".join(table.oracles.get(f"{row.id}/{column.id}", ())),
                ]
            )
    return stream.getvalue()


def csv_number(value: float | int | None) -> str:
    """Return a number as the CSV files have it: four decimals at most, nothing for None and not-a-number."""
    if value is None or value != value:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4f}".rstrip("0").rstrip(".")


def render_md(table: Table) -> str:
    """Return the table as GitHub Markdown."""
    spec = table.spec
    parts = [f"# {md_escape(spec.title)}", *([md_escape(spec.caption.strip())] if spec.caption else [])]
    head = ["", *(md_escape(full_title(column)) + _marks(table, f"/{column.id}") for column in spec.shown)]
    rows = [
        [md_escape(row.title) + _marks(table, row.id)] + [_md_entry(table, row.id, column.id) for column in spec.shown]
        for row in spec.rows
    ]
    parts.append(grid(head, rows))
    if table.apart:
        rows = [
            [f"{md_escape(row.title)} ({md_escape(', '.join(_flags(table, row.id)))})"]
            + [spread(e.value.mean, e.value.sd) if e.apart and e.value else "" for e in table.row(row.id)]
            for row in table.apart
        ]
        parts += ["**Not comparable, outside the main columns**", grid(head, rows)]
    if table.comparisons:
        parts += ["## Differences between rows", _md_comparisons(table)]
    parts += [f"{mark}) {md_escape(text)}" for mark, text in table.footnotes]
    parts += [f"**{md_escape(label)}.** {md_escape(text)}" for label, text in table.lines]
    return "\n\n".join(parts) + "\n"


def _md_entry(table: Table, row: str, column: str) -> str:
    entry = table.entries[row, column]
    if entry.main is None:
        text = absent_text(entry)
    else:
        text = spread(entry.main.mean, entry.main.sd)
        text = f"**{text}**" if entry.best else text
        text += gain_text(entry.gain)
        if table.uniform_n is None and entry.key:
            text += f" (n = {entry.main.n})"
    text += _marks(table, f"{row}/{column}")
    return f"{text} [{printed_text(entry)}]" if entry.has_printed else text


def gain_text(gain: float | None) -> str:
    """Return a gain as it stands behind its value, in brackets; nothing for None."""
    return "" if gain is None else f" ({number(gain, sign=True)})"


def printed_text(entry: Entry) -> str:
    """Return the printed value and our difference to it."""
    text = f"printed {spread(entry.printed, entry.printed_sd)}".rstrip() + gain_text(entry.gain_printed)
    return text if entry.delta is None else f"{text}, Δ {number(entry.delta, sign=True)}"


def _md_comparisons(table: Table) -> str:
    relative = ["Relative, %", "95 % interval"] if any(c.relative is not None for c in table.comparisons) else []
    head = ["A − B", "Column", "Difference", "95 % interval", *relative, "p", "p (Holm)", "holds"]
    return grid(
        head,
        [
            [
                f"{md_escape(table.row_title(c.a))} − {md_escape(table.row_title(c.b))}",
                md_escape(table.column_title(c.column)),
                number(c.difference, sign=True),
                interval_text(c.low, c.high),
                *([number(c.relative, sign=True), interval_text(c.relative_low, c.relative_high)] if relative else []),
                p_value(c.p).replace("<", "&lt;"),
                p_value(c.p_holm).replace("<", "&lt;"),
                "yes" if c.holds else "no",
            ]
            for c in table.comparisons
        ],
    )


def interval_text(low: float | None, high: float | None) -> str:
    """Return an interval of differences; nothing where there is none."""
    return "" if low is None or high is None else f"{number(low, sign=True)} to {number(high, sign=True)}"


def relative_text(comparison: Comparison) -> str:
    """Return a relative change with its interval as it stands behind a difference; nothing where there is none."""
    if comparison.relative is None:
        return ""
    interval = interval_text(comparison.relative_low, comparison.relative_high)
    return f"; relative {number(comparison.relative, sign=True)} %" + (f" ({interval})" if interval else "")


def grid(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table: the first column to the left, the others to the right."""
    rule = [":--", *("--:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])


def _flags(table: Table, row: str) -> list[str]:
    return sorted({flag for entry in table.row(row) for flag in entry.apart})


def _marks(table: Table, place: str) -> str:
    found = table.marks.get(place, ())
    return f" <sup>{', '.join(found)}</sup>" if found else ""


def md_escape(text: str) -> str:
    """Escape what Markdown or HTML would read as markup."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text).replace("\n", " ")
