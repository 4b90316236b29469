"""A view's numbers with its titles, and all of them as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fewtable.registry import validate
from fewtable.tables.text import csv_number
from fewtable.views.spec import SIDES, ViewSpec

CSV_COLUMNS = (
    *("dataset", "side", "method", "what", "layer", "written", "number", "word", "gold"),
    *("id", "start", "end", "text", "type", "x", "y", "value", "why"),
)


@dataclass(frozen=True)
class View:
    """A view ready to be drawn."""

    name: str
    spec: ViewSpec
    titles: Mapping[str, str]
    """Dataset -> title."""
    types: Mapping[str, Mapping[str, str]]
    """Dataset -> type -> its words."""
    missing: Mapping[str, str]
    """Dataset -> why there is nothing of it."""
    numbers: Mapping[str, Any]
    """Dataset -> what the view's job wrote (``views.look``)."""

    def words(self, dataset: str, name: str) -> str:
        """Return a type's words."""
        return self.types[dataset].get(name, name)


def from_params(params: Mapping[str, Any], numbers: Mapping[str, Any]) -> View:
    """Put together the view that the plan's params describe."""
    spec = validate(ViewSpec, params["spec"], f"view {params['name']}")
    blocked = params["blocked"]
    whys = {dataset: [blocked.get(f"{dataset}/{side}", "") for side in SIDES] for dataset in spec.datasets}
    missing = {dataset: next(filter(None, both)) for dataset, both in whys.items() if any(both)}
    return View(params["name"], spec, params["datasets"], params["types"], missing, numbers)


def shares(numbers: Mapping[str, Any], side: str) -> tuple[float, float]:
    """Return how much of the attention goes to the entities' words, and to those of the sentence.

    The mean over the tokens that are written, the one that ends the answer with them; from 0 to 1.
    """
    own = numbers[side]
    gold = _gold(numbers)
    rows = own["attention"]
    on_gold = sum(value for row in rows for n, value in enumerate(row) if n in gold)
    return on_gold / len(rows), sum(map(sum, rows)) / len(rows)


def _gold(numbers: Mapping[str, Any]) -> set[int]:
    return {n for start, end in numbers["entities"] for n in range(start, end)}


def render_csv(view: View) -> str:
    """Return all numbers as CSV; ``what`` says of each line what its ``value``, or ``x`` and ``y``, are.

    ``attention``: from the token that writes ``written``, on ``word``; ``elsewhere``: on all that is no word of the
    sentence. ``cosine``: of the type's query and the word's key. ``share.entity`` and ``share.sentence``: the mean
    attention on their words. ``entity``: its point. ``silhouette.hidden``, ``.keys`` and ``.points``: by type, of the
    vectors that are drawn, of the layer's keys, and of the points. ``missing``: ``why``.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for dataset in view.spec.datasets:
        if dataset in view.missing:
            writer.writerow({"dataset": dataset, "what": "missing", "why": view.missing[dataset]})
            continue
        numbers = view.numbers[dataset]
        for side in SIDES:
            shared = {"dataset": dataset, "side": side, "method": view.spec.side(side).method}
            rows = _attention_rows(numbers, side) if view.spec.attention else _space_rows(numbers, side)
            writer.writerows(shared | {"layer": numbers[side]["layer"]} | row for row in rows)
    return stream.getvalue()


def _attention_rows(numbers: Mapping[str, Any], side: str) -> Iterator[dict[str, Any]]:
    own, gold, name = numbers[side], _gold(numbers), numbers["type"]
    words = [{"number": n, "word": word, "gold": int(n in gold)} for n, word in enumerate(numbers["words"])]
    for written, row, elsewhere in zip(own["written"], own["attention"], own["elsewhere"], strict=True):
        for word, value in zip(words, row, strict=True):
            yield {"what": "attention", "type": name, "written": written, **word, "value": csv_number(value)}
        yield {"what": "elsewhere", "type": name, "written": written, "value": csv_number(elsewhere)}
    for word, value in zip(words, own["cosines"], strict=True):
        yield {"what": "cosine", "type": name, **word, "value": csv_number(value)}
    for what, share in zip(("share.entity", "share.sentence"), shares(numbers, side), strict=True):
        yield {"what": what, "type": name, "value": csv_number(share)}


def _space_rows(numbers: Mapping[str, Any], side: str) -> Iterator[dict[str, Any]]:
    own = numbers[side]
    for (identity, start, end, name, text), (x, y) in zip(numbers["entities"], own["points"], strict=True):
        place = {"id": identity, "start": start, "end": end, "text": text, "type": name}
        yield {"what": "entity", **place, "x": csv_number(x), "y": csv_number(y)}
    for what, value in own["silhouette"].items():
        yield {"what": f"silhouette.{what}", "value": csv_number(value)}
