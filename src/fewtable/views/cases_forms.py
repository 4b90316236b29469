"""Cases as CSV, Markdown and HTML."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from itertools import product

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fewtable.tables.html import page
from fewtable.tables.text import grid, md_escape
from fewtable.views.cases import OUTCOMES, Case, Cases, Outcome

CSV_COLUMNS = (
    *("what", "dataset", "draw", "id", "type", "sentence", "gold", "start", "end", "before", "after"),
    *("outcome_before", "outcome_after", "count", "why"),
)
WORDS: dict[Outcome, str] = {"right": "right", "boundary": "boundary error", "missed": "missed"}


def render_csv(cases: Cases) -> str:
    """Return the cases, and under them how many gold entities fared how, as CSV: ``what`` is case, count or missing."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for case in cases.found:
        sentence, gold = case.instance.sentence, case.gold
        shared = {"what": "case", "dataset": case.instance.dataset, "draw": case.instance.draw, "id": sentence.id}
        own = {"type": gold.type, "sentence": sentence.text, "start": gold.start, "end": gold.end}
        answers = {"gold": _gold(case), "before": _answer(case, "before"), "after": _answer(case, "after")}
        writer.writerow(shared | own | answers)
    for dataset, before, after, count in _counts(cases):
        writer.writerow(
            {"what": "count", "dataset": dataset, "outcome_before": before, "outcome_after": after, "count": count}
        )
    for dataset, why in cases.missing.items():
        writer.writerow({"what": "missing", "dataset": dataset, "why": why})
    return stream.getvalue()


def render_md(cases: Cases, titles: Mapping[str, str], types: Mapping[str, Mapping[str, str]]) -> str:
    """Return the cases as GitHub Markdown, the gold entity of each sentence in bold.

    Args:
        cases: what was found.
        titles: dataset -> title.
        types: dataset -> type -> its words.
    """
    spec = cases.spec
    head = ["Sentence", "Type", "Gold", spec.before.title, spec.after.title]
    rows = [
        [
            "".join(f"**{md_escape(text)}**" if marked else md_escape(text) for text, marked in _pieces(case)),
            md_escape(types[case.instance.dataset].get(case.gold.type, case.gold.type)),
            *(md_escape(text) for text in (_gold(case), _answer(case, "before"), _answer(case, "after"))),
        ]
        for case in cases.found
    ]
    parts = [f"# {md_escape(spec.title)}", md_escape(spec.caption.strip())]
    parts.append(grid(head, rows) if rows else "There is no such case.")
    parts += ["## How often", md_escape(_summary(cases))]
    counted = [[md_escape(titles[d]), WORDS[b], WORDS[a], str(n)] for d, b, a, n in _counts(cases)]
    if counted:
        parts.append(grid(["Dataset", spec.before.title, spec.after.title, "Gold entities"], counted))
    parts += [f"**{md_escape(titles[dataset])}.** {md_escape(why)}" for dataset, why in cases.missing.items()]
    return "\n\n".join(filter(None, parts)) + "\n"


BODY = """\
{% if spec.caption %}<p>{{ spec.caption }}</p>{% endif %}
{% if cases.found -%}
<div class="scroll" role="region" tabindex="0" aria-label="{{ spec.title }}">
<table>
<thead><tr><th scope="col" class="text">Sentence</th><th scope="col" class="text">Type</th>
<th scope="col" class="text">Gold</th><th scope="col" class="text">{{ spec.before.title }}</th>
<th scope="col" class="text">{{ spec.after.title }}</th></tr></thead>
<tbody>
{% for case in cases.found -%}
<tr><th scope="row" class="sentence">{% for text, marked in pieces(case) %}{% if marked %}<mark>{{ text }}</mark>\
{% else %}{{ text }}{% endif %}{% endfor %}</th>
<td class="text">{{ types[case.instance.dataset].get(case.gold.type, case.gold.type) }}</td>
<td class="answer">{{ gold(case) }}</td>
<td class="answer wrong">{{ answer(case, "before") }} <span aria-label="wrong">✗</span></td>
<td class="answer right">{{ answer(case, "after") }} <span aria-label="right">✓</span></td></tr>
{% endfor -%}
</tbody></table></div>
{% else -%}
<p>There is no such case.</p>
{% endif -%}
<h2>How often</h2>
<p>{{ summary }}</p>
{% if counts -%}
<div class="scroll" role="region" tabindex="0" aria-label="How often">
<table>
<thead><tr><th scope="col" class="text">Dataset</th><th scope="col" class="text">{{ spec.before.title }}</th>
<th scope="col" class="text">{{ spec.after.title }}</th><th scope="col">Gold entities</th></tr></thead>
<tbody>
{% for dataset, before, after, count in counts -%}
<tr><th scope="row">{{ titles[dataset] }}</th><td class="text">{{ words[before] }}</td>\
<td class="text">{{ words[after] }}</td><td>{{ count }}</td></tr>
{% endfor -%}
</tbody></table></div>
{% endif -%}
{% for dataset, why in cases.missing.items() -%}
<p><strong>{{ titles[dataset] }}.</strong> {{ why }}</p>
{% endfor -%}
"""


def render_html(cases: Cases, titles: Mapping[str, str], types: Mapping[str, Mapping[str, str]]) -> str:
    """Return the cases as a page of its own; see ``render_md``."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.globals.update(pieces=_pieces, gold=_gold, answer=_answer)
    body = environment.from_string(BODY).render(
        cases=cases,
        spec=cases.spec,
        counts=_counts(cases),
        summary=_summary(cases),
        titles=titles,
        types=types,
        words=WORDS,
    )
    return page(cases.spec.title, Markup(body))


def _counts(cases: Cases) -> list[tuple[str, Outcome, Outcome, int]]:
    return [
        (dataset, before, after, counts[before, after])
        for dataset, counts in cases.counts.items()
        for before, after in product(OUTCOMES, OUTCOMES)
        if counts[before, after]
    ]


def _summary(cases: Cases) -> str:
    spec = cases.spec
    mended = sum(counts["boundary", "right"] for counts in cases.counts.values())
    broken = sum(counts["right", "boundary"] for counts in cases.counts.values())
    golds = sum(counts.total() for counts in cases.counts.values())
    return (
        f"Of {golds:,} gold entities in {cases.instances.total():,} sentences, {mended:,} have a boundary error in "
        f"{spec.before.title} and are right in {spec.after.title}; {broken:,} are right in {spec.before.title} and "
        f"have a boundary error in {spec.after.title}."
    )


def _gold(case: Case) -> str:
    return case.instance.sentence.surface(case.gold.start, case.gold.end)


def _answer(case: Case, side: str) -> str:
    sentence = case.instance.sentence
    return "; ".join(sentence.surface(answer.start, answer.end) for answer in case.answered(side))


def _pieces(case: Case) -> list[tuple[str, bool]]:
    """Return the sentence in pieces, the gold entity marked."""
    sentence, gold = case.instance.sentence, case.gold
    start = len(sentence.surface(0, gold.start + 1)) - len(sentence.words[gold.start])
    end = start + len(_gold(case))
    return [(sentence.text[:start], False), (sentence.text[start:end], True), (sentence.text[end:], False)]
