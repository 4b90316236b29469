"""What a person looks at in a tracked cell: some predictions beside the gold, and a confusion picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fewtable.corpus import Entity, Sentence
from fewtable.files import read_json, write_json, write_text
from fewtable.formats.base import Parsed
from fewtable.predictions import read_predictions, read_tasks

SHOWN = 50
"""Sentences in the predictions sample."""

MISSED = "(missed)"
SPURIOUS = "(spurious)"
_OTHER = "(other)"
_MOST_TYPES = 30

Answer = tuple[int, Sentence, Parsed]
"""Draw, sentence with gold, what was read from the model's output."""


def write_artifacts(results: Path, key: str, folder: Path) -> None:
    """Write a cell's artifacts into ``folder``: cell.json, predictions.{json,html}, confusion.png.

    Raises:
        DataError: samples, data or predictions of the cell are missing or malformed.
    """
    cell = read_json(results / "cells" / f"{key}.json")
    write_json(folder / "cell.json", cell)
    answers = read_answers(results, cell, key)
    write_json(folder / "predictions.json", _as_table(answers[:SHOWN]))
    write_text(folder / "predictions.html", _as_html(answers[:SHOWN], key))
    draw_confusion(confusion(answers), cell["types"], key, folder / "confusion.png")


def read_answers(results: Path, cell: Mapping[str, Any], key: str) -> list[Answer]:
    """Return every query sentence of a cell with its prediction, in the order of draws and of the sample."""
    answers: list[Answer] = []
    for block in cell["blocks"]:
        said = read_predictions(results / "runs" / key / block / f"predictions.{cell['query']}.jsonl")
        for task in read_tasks(results, cell["dataset"], cell["setting"], block):
            found = said.get(task.draw, {})
            answers += [(task.draw, s, found.get(s.id, Parsed(()))) for s in task.query]
    return answers


def confusion(answers: Iterable[Answer]) -> Counter[tuple[str, str]]:
    """Count (gold type, predicted type) over equal spans.

    A gold span that is not predicted counts as (type, MISSED), a predicted one that is not gold as
    (SPURIOUS, type); a boundary error is one of each.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for _, sentence, parsed in answers:
        gold, said = set(sentence.entities), set(parsed.entities)
        counts.update((e.type, e.type) for e in gold & said)
        gold, said = gold - said, said - gold
        for start, end in sorted({(e.start, e.end) for e in gold | said}):
            left = sorted(e.type for e in gold if (e.start, e.end) == (start, end))
            right = sorted(e.type for e in said if (e.start, e.end) == (start, end))
            counts.update(zip(left, right, strict=False))
            counts.update((kind, MISSED) for kind in left[len(right) :])
            counts.update((SPURIOUS, kind) for kind in right[len(left) :])
    return counts


def draw_confusion(counts: Mapping[tuple[str, str], int], types: Sequence[str], title: str, path: Path) -> None:
    """Draw gold type (rows) x predicted type (columns) as a PNG; beyond 30 types the rarest become one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    weight: Counter[str] = Counter(dict.fromkeys(types, 0))
    for pair, count in counts.items():
        weight.update({kind: count for kind in pair if kind not in (MISSED, SPURIOUS)})
    frequent = {kind for kind, _ in weight.most_common(_MOST_TYPES)}
    shown = [kind for kind in weight if kind in frequent] + ([_OTHER] if len(weight) > _MOST_TYPES else [])
    rows, columns = [*shown, SPURIOUS], [*shown, MISSED]
    grid = [[0] * len(columns) for _ in rows]
    for (gold, said), count in counts.items():
        row = rows.index(gold if gold in rows else _OTHER)
        column = columns.index(said if said in columns else _OTHER)
        grid[row][column] += count

    side = 2.2 + 0.42 * len(columns)
    figure = Figure(figsize=(side + 0.8, side), dpi=90, layout="tight")
    axes = figure.subplots()
    # the root keeps rare errors visible beside hundreds of hits
    axes.imshow([[value**0.5 for value in line] for line in grid], cmap="Blues")
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("gold")
    axes.set_title(title, fontsize=8)
    top = max(max(line) for line in grid)
    for y, line in enumerate(grid):
        for x, value in enumerate(line):
            if value:
                colour = "white" if value > top / 3 else "black"
                axes.text(x, y, str(value), ha="center", va="center", fontsize=7, color=colour)
    FigureCanvasAgg(figure).print_png(str(path), metadata={"Software": None})


def _named(words: Sequence[str], entities: Iterable[Entity]) -> str:
    return "; ".join(f"{' '.join(words[e.start : e.end])} = {e.type}" for e in sorted(entities))


def _as_table(answers: Iterable[Answer]) -> dict[str, Any]:
    rows = [
        [
            draw,
            sentence.id,
            " ".join(sentence.words),
            _named(sentence.words, sentence.entities),
            _named(sentence.words, parsed.entities),
            set(sentence.entities) == set(parsed.entities),
            "; ".join(f"{d.cause}: {d.text}" for d in parsed.dropped),
        ]
        for draw, sentence, parsed in answers
    ]
    return {"columns": ["draw", "id", "sentence", "gold", "predicted", "exact", "dropped"], "data": rows}


_HEAD = """<!doctype html><meta charset="utf-8"><title>{title}</title><style>
body{{font:14px/1.6 sans-serif;margin:1em}} td,th{{padding:.2em .7em;text-align:left;vertical-align:top}}
tr{{border-bottom:1px solid #ddd}} table{{border-collapse:collapse}} .hit{{color:#14622d}}
.wrong{{color:#a11212}} .lost{{color:#8a5a00}}
</style><h3>{title}: the first query sentences</h3>
<p><span class="hit">found</span>, <span class="wrong">predicted but not gold</span>,
<span class="lost">gold but not predicted</span></p>
<table><tr><th>draw<th>id<th>sentence<th>entities<th>dropped
"""


def _as_html(answers: Iterable[Answer], title: str) -> str:
    lines = [_HEAD.format(title=escape(title))]
    for draw, sentence, parsed in answers:
        gold, said = set(sentence.entities), set(parsed.entities)
        marks = [
            f'<span class="{style}">{escape(_named(sentence.words, [entity]))}</span>'
            for style, group in (("hit", gold & said), ("wrong", said - gold), ("lost", gold - said))
            for entity in sorted(group)
        ]
        causes = "<br>".join(escape(f"{d.cause}: {d.text}") for d in parsed.dropped)
        lines.append(
            f"<tr><td>{draw}<td>{escape(sentence.id)}<td>{escape(' '.join(sentence.words))}"
            f"<td>{'<br>'.join(marks)}<td>{causes}\n"
        )
    return "".join(lines) + "</table>\n"
