"""A table as LaTeX: a booktabs float for papers to read in."""

from __future__ import annotations

from fewtable.tables.model import Entry, Table, absent_text, number, p_value
from fewtable.tables.text import gain_text, relative_text

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "−": r"$-$",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "×": r"$\times$",
    "–": "--",
    "—": "---",
    "“": "``",
    "”": "''",
    "’": "'",
    "…": r"\ldots{}",
    "\n": " ",
}
WIDE = 6
"""A table with more columns than this spans both columns of a paper."""


def escape(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    return "".join(SPECIAL.get(character, character) for character in text)


def render_tex(table: Table) -> str:
    """Return the table as LaTeX; the document needs the package booktabs."""
    spec = table.spec
    kind = "table*" if len(spec.shown) > WIDE else "table"
    width = len(spec.shown) + 1
    out = [
        r"% needs \usepackage{booktabs}",
        rf"\begin{{{kind}}}",
        r"\centering\small",
        *([r"\setlength{\tabcolsep}{3pt}"] if len(spec.shown) > WIDE else []),
        rf"\caption{{{escape(' '.join(filter(None, (spec.title + '.', spec.caption.strip()))))}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{@{{}}l{'r' * len(spec.shown)}@{{}}}}",
        r"\toprule",
        *_head(table),
        r"\midrule",
    ]
    for row in spec.rows:
        entries = [_entry(table, row.id, column.id) for column in spec.shown]
        out.append(_line([escape(row.title) + _marks(table, row.id), *entries]))
        if table.has_printed(row.id):
            out.append(_line([r"\quad\footnotesize printed", *map(_printed, table.row(row.id))]))
    if table.apart:
        out += [r"\midrule", rf"\multicolumn{{{width}}}{{@{{}}l}}{{\emph{{Not comparable}}}} \\"]
        for row in table.apart:
            apart = [_value(e.value.mean, e.value.sd) if e.apart and e.value else "" for e in table.row(row.id)]
            flags = sorted({flag for e in table.row(row.id) for flag in e.apart})
            out.append(_line([f"{escape(row.title)} ({escape(', '.join(flags))})", *apart]))
    out += [r"\bottomrule", r"\end{tabular}"]
    out += [rf"\par\medskip\footnotesize\raggedright {text}" for text in _notes(table)]
    return "\n".join([*out, rf"\end{{{kind}}}"]) + "\n"


def _head(table: Table) -> list[str]:
    out = []
    if any(title for title, _ in table.groups):
        cells, rules, start = [], [], 2
        for title, size in table.groups:
            cells.append(rf"\multicolumn{{{size}}}{{c}}{{{escape(title)}}}")
            if title:
                rules.append(rf"\cmidrule(lr){{{start}-{start + size - 1}}}")
            start += size
        out = [_line(["", *cells]), " ".join(rules)]
    return [*out, _line(["", *(escape(c.title) + _marks(table, f"/{c.id}") for c in table.spec.shown)])]


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _entry(table: Table, row: str, column: str) -> str:
    entry = table.entries[row, column]
    if entry.main is None:
        text = escape(absent_text(entry))
    else:
        text = _value(entry.main.mean, entry.main.sd, best=entry.best) + escape(gain_text(entry.gain))
        if table.uniform_n is None and entry.key:
            text += rf"\,{{\scriptsize(n={entry.main.n})}}"
    return text + _marks(table, f"{row}/{column}")


def _value(mean: float | None, sd: float | None, best: bool = False) -> str:
    text = escape(number(mean))
    text = rf"\textbf{{{text}}}" if best else text
    return text if sd is None else rf"{text}\,{{\scriptsize$\pm$\,{escape(number(sd))}}}"


def _printed(entry: Entry) -> str:
    if not entry.has_printed:
        return ""
    value = "" if entry.printed is None else _value(entry.printed, entry.printed_sd)
    return rf"\footnotesize {value}{escape(gain_text(entry.gain_printed))}"


def _marks(table: Table, place: str) -> str:
    found = table.marks.get(place, ())
    return rf"\textsuperscript{{{','.join(found)}}}" if found else ""


def _notes(table: Table) -> list[str]:
    notes = [rf"\textsuperscript{{{mark}}}\,{escape(text)}" for mark, text in table.footnotes]
    notes += [rf"\textbf{{{escape(label)}.}} {escape(text)}" for label, text in table.lines]
    if table.comparisons:
        tests = "; ".join(
            f"{table.row_title(c.a)} − {table.row_title(c.b)}, {table.column_title(c.column)}: "
            f"{number(c.difference, sign=True)} ({number(c.low, sign=True)} to {number(c.high, sign=True)}), "
            f"p {p_value(c.p_holm) if c.p_holm < 0.001 else '= ' + p_value(c.p_holm)}{relative_text(c)}"
            for c in table.comparisons
        )
        notes.append(rf"\textbf{{Differences}} (95 \% interval; p after Holm). {escape(tests)}.")
    return notes
