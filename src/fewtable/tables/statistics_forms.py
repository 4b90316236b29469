"""A table of statistics as Markdown, LaTeX and HTML."""

from __future__ import annotations

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fewtable.tables.html import page
from fewtable.tables.latex import escape
from fewtable.tables.statistics import Statistics, cell_text, lines, row_label
from fewtable.tables.text import grid, md_escape

BODY = """\
<div class="scroll" role="region" tabindex="0" aria-label="{{ spec.title }}">
<table>
{% if spec.caption %}<caption><span>{{ spec.caption }}</span></caption>{% endif %}
<thead><tr><th scope="col" class="text">Dataset</th>{% for column in spec.columns %}\
<th scope="col">{{ column.title }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in spec.rows -%}
<tr><th scope="row">{{ row_label(row) }}</th>{% for column in spec.columns %}\
<td>{{ text(row.id, column) }}</td>{% endfor %}</tr>
{% endfor -%}
</tbody>
</table>
</div>
<div class="under">
{% for title, note in table.notes %}<div>{{ title }}: {{ note }}</div>
{% endfor -%}
<dl>
{% for label, line in lines %}<div><dt>{{ label }}.</dt> <dd>{{ line }}</dd></div>
{% endfor -%}
</dl>
</div>\
"""


def render_md(table: Statistics) -> str:
    """Return the counts as GitHub Markdown."""
    spec = table.spec
    parts = [f"# {md_escape(spec.title)}", *([md_escape(spec.caption.strip())] if spec.caption else [])]
    head = ["", *(md_escape(column.title) for column in spec.columns)]
    rows = [[md_escape(t) for t in (row_label(row), *_texts(table, row.id))] for row in spec.rows]
    parts += [grid(head, rows), *(f"{md_escape(title)}: {md_escape(note)}" for title, note in table.notes)]
    parts += [f"**{md_escape(label)}.** {md_escape(text)}" for label, text in lines(table)]
    return "\n\n".join(parts) + "\n"


def render_tex(table: Statistics) -> str:
    """Return the counts as LaTeX; the document needs the package booktabs."""
    spec = table.spec
    under = [f"{title}: {note}" for title, note in table.notes] + [f"{label}. {text}" for label, text in lines(table)]
    out = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{escape(' '.join(filter(None, (spec.title + '.', spec.caption.strip()))))}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{@{{}}l{'r' * len(spec.columns)}@{{}}}}",
        r"\toprule",
        " & ".join(["", *(escape(column.title) for column in spec.columns)]) + r" \\",
        r"\midrule",
        *(" & ".join(map(escape, (row_label(row), *_texts(table, row.id)))) + r" \\" for row in spec.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\medskip\footnotesize\raggedright {escape(text)}" for text in under),
        r"\end{table}",
    ]
    return "\n".join(out) + "\n"


def render_html(table: Statistics) -> str:
    """Return the counts as a page of its own."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    body = environment.from_string(BODY).render(
        table=table,
        spec=table.spec,
        lines=lines(table),
        row_label=row_label,
        text=lambda row, column: cell_text(table, row, column),
    )
    return page(table.spec.title, Markup(body))


def _texts(table: Statistics, row: str) -> list[str]:
    return [cell_text(table, row, column) for column in table.spec.columns]
