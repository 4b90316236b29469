"""A table as HTML: a fragment for the report, and a page of its own. No scripts, no external files."""

from __future__ import annotations

from collections.abc import Mapping

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fewtable.tables.model import Table, absent_text, number, p_value, spread
from fewtable.tables.text import gain_text, interval_text, printed_text, relative_text

CSS = """\
:root{color-scheme:light dark;--paper:#fff;--soft:#f4f6f8;--ink:#1a2027;--muted:#58626e;--line:#d5dbe1;
--accent:#0b5c8a;--best:#e4f1e8;--best-ink:#14532d;--warn:#8a4b00;--warn-paper:#fdf3e1}
@media (prefers-color-scheme:dark){:root{--paper:#12161b;--soft:#1a2027;--ink:#e4e9ee;--muted:#9ba6b2;
--line:#313a44;--accent:#7cc0ea;--best:#173324;--best-ink:#a5e3bd;--warn:#f0bf75;--warn-paper:#33270f}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
a{color:var(--accent)}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px;border-radius:3px}
.sr{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.scroll{overflow-x:auto;width:fit-content;min-width:min(40rem,100%);max-width:100%;margin:1rem 0;
border:1px solid var(--line);border-radius:8px}
.scroll table{border-collapse:separate;border-spacing:0;width:100%;font-variant-numeric:tabular-nums}
.scroll caption{text-align:left;padding:.8rem 1rem;color:var(--muted)}
.scroll caption span{display:inline-block;position:sticky;left:1rem;max-width:min(70rem,calc(100vw - 5rem))}
.scroll caption strong{display:block;color:var(--ink);font-size:1.05rem}
.scroll th,.scroll td{padding:.55rem .9rem;text-align:right;vertical-align:top;border-top:1px solid var(--line)}
.scroll thead th,.scroll .corner{background:var(--soft);font-weight:600;vertical-align:bottom}
.scroll thead tr+tr th{border-top:0}
.scroll th.group{text-align:center}
.scroll tbody th{text-align:left;font-weight:600;min-width:7.5rem;position:sticky;left:0;background:var(--paper)}
.scroll thead tr>:first-child{position:sticky;left:0;z-index:1}
.scroll td{white-space:nowrap}
.scroll td.text,.scroll th.text{text-align:left}
.scroll tbody.apart th,.scroll tbody.apart td{background:var(--warn-paper)}
.scroll tr.head th{text-align:left;font-weight:400;color:var(--warn)}
td.best,.scroll td.best a{background:var(--best);color:var(--best-ink)}
td.best .mean{font-weight:700}
.mean{font-size:1.05rem}
.small{display:block;font-size:.78rem;color:var(--muted);line-height:1.45}
td.best .small{color:inherit}
.absent{color:var(--muted);font-style:italic}
.scroll tbody th.sentence{font-weight:400;min-width:18rem}
.scroll td.answer{text-align:left;white-space:normal}
mark,.right{background:var(--best);color:var(--best-ink)}
mark{font-weight:600}
.wrong{color:var(--warn)}
sup{line-height:0;font-size:.72rem}
.under{font-size:.85rem;color:var(--muted);max-width:75rem}
.under dt,.under dd{display:inline;margin:0}
.under dt{font-weight:600;color:var(--ink)}
.under div{margin:.2rem 0}
.page{max-width:85rem;margin:0 auto;padding:1.2rem}
"""
"""Styles that a page with a fragment needs; the report lays its own on top."""

FRAGMENT = """\
{%- macro marks(place) -%}
{% for mark in table.marks.get(place, ()) -%}
<sup><a href="#note-{{ table.name }}-{{ mark }}" aria-label="note {{ mark }}">{{ mark }}</a></sup>
{%- endfor %}
{%- endmacro -%}
{%- macro figure(entry) -%}
{% set text = spread(entry.value.mean, entry.value.sd) %}
{%- if entry.key in links %}<a class="mean" href="#{{ links[entry.key] }}">{{ text }}</a>
{%- else %}<span class="mean">{{ text }}</span>{% endif %}
{{- gain(entry.gain) }}
{%- endmacro -%}
{%- macro beside(entry) -%}
{%- if entry.key -%}
<span class="small">n = {{ entry.value.n }}
{%- if entry.value.low is not none %} · {{ number(entry.value.low) }} to {{ number(entry.value.high) }}{% endif -%}
</span>
{%- endif -%}
{%- endmacro -%}
<div class="scroll" role="region" tabindex="0" aria-label="{{ table.spec.title }}">
<table id="table-{{ table.name }}">
{% if table.spec.caption %}<caption><span>{{ table.spec.caption }}</span></caption>{% endif %}
<thead>
{% if table.groups|selectattr(0)|list -%}
<tr><td class="corner"></td>{% for title, size in table.groups %}\
<th class="group" scope="colgroup" colspan="{{ size }}">\
{{ title }}</th>{% endfor %}</tr>
{% endif -%}
<tr><th scope="col" class="text">Method</th>{% for column in table.spec.shown %}<th scope="col">\
{{ column.title }}{{ marks("/" ~ column.id) }}</th>{% endfor %}</tr>
</thead>
<tbody>
{% for row in table.spec.rows -%}
<tr><th scope="row">{{ row.title }}{{ marks(row.id) }}</th>
{% for column in table.spec.shown -%}
{% set entry = table.entries[row.id, column.id] -%}
<td{% if entry.best %} class="best"{% endif %}>
{%- if entry.main is not none -%}
{% if entry.best %}<span aria-hidden="true">★ </span><span class="sr">best in this column: </span>{% endif -%}
{{ figure(entry) }}{{ marks(row.id ~ "/" ~ column.id) }}{{ beside(entry) }}
{%- else -%}
<span class="absent">{{ absent(entry, "not run") }}</span>
{{- marks(row.id ~ "/" ~ column.id) }}
{%- endif -%}
{% if entry.has_printed %}<span class="small">{{ printed(entry) }}</span>{% endif -%}
</td>
{% endfor -%}
</tr>
{% endfor -%}
</tbody>
{% if table.apart -%}
<tbody class="apart">
<tr class="head"><th colspan="{{ table.spec.shown|length + 1 }}" scope="rowgroup">Not comparable, outside the main \
columns</th></tr>
{% for row in table.apart -%}
<tr><th scope="row">{{ row.title }}</th>
{% for entry in table.row(row.id) -%}
<td>{% if entry.apart and entry.value %}{{ figure(entry) }}{{ beside(entry) }}<span class="small">\
{{ entry.apart|join(", ") }}</span>{% endif %}</td>
{% endfor -%}
</tr>
{% endfor -%}
</tbody>
{% endif -%}
</table>
</div>
<div class="under">
{% for mark, text in table.footnotes -%}
<div id="note-{{ table.name }}-{{ mark }}"><sup>{{ mark }}</sup> {{ text }}</div>
{% endfor -%}
<dl>
<div><dt>Reading a cell.</dt> <dd>mean ± deviation, then n and interval, then the printed value and our difference Δ \
to it; ★ is the best mean of a column.</dd></div>
{% for label, text in table.lines -%}
<div><dt>{{ label }}.</dt> <dd>{{ text }}</dd></div>
{% endfor -%}
</dl>
</div>
"""

COMPARISONS = """\
{% if table.comparisons -%}
<div class="scroll" role="region" tabindex="0" aria-label="Differences between rows">
<table>
<caption><strong>Differences between rows</strong> Row A minus row B on the same query sentences: paired approximate
randomisation (two-sided p, Holm over this list), 95 % interval by a two-way bootstrap over draws and sentences. A
difference holds when the interval leaves out 0 and the corrected p is below .05.</caption>
<thead><tr><th scope="col" class="text">A − B</th><th scope="col" class="text">Column</th>
<th scope="col">Difference</th><th scope="col">95 % interval</th><th scope="col">p</th><th scope="col">p (Holm)</th>
<th scope="col">Holds</th></tr></thead>
<tbody>
{% for c in table.comparisons -%}
<tr><th scope="row">{{ table.row_title(c.a) }} − {{ table.row_title(c.b) }}</th>
<td class="text">{{ table.column_title(c.column) }}</td>
<td>{{ number(c.difference, sign=True) }}{{ relative(c) }}</td><td>{{ interval(c.low, c.high) }}</td>
<td>{{ p_value(c.p) }}</td><td>{{ p_value(c.p_holm) }}</td><td>{{ "yes" if c.holds else "no" }}</td></tr>
{% endfor -%}
</tbody></table></div>
{% endif -%}
"""

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
{{ css }}</style>
</head>
<body>
<main class="page">
<h1>{{ title }}</h1>
{{ body }}
</main>
</body>
</html>
"""


def _render(template: str, table: Table, **values: object) -> Markup:
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.globals.update(number=number, spread=spread, p_value=p_value, printed=printed_text, gain=gain_text)
    environment.globals.update(absent=absent_text, interval=interval_text, relative=relative_text)
    return Markup(environment.from_string(template).render(table=table, **values))


def fragment(table: Table, links: Mapping[str, str] | None = None) -> Markup:
    """Return table and lines under it.

    Args:
        table: the table.
        links: cell key -> id of the element that a value leads to.
    """
    return _render(FRAGMENT, table, links=links or {})


def comparison_fragment(table: Table) -> Markup:
    """Return the tested pairs as a table, or nothing."""
    return _render(COMPARISONS, table)


def render_html(table: Table) -> str:
    """Return the table as a page of its own."""
    return page(table.spec.title, Markup("\n").join((fragment(table), comparison_fragment(table))))


def page(title: str, body: Markup) -> str:
    """Return a page of its own."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(PAGE).render(title=title, css=Markup(CSS), body=body) + "\n"
