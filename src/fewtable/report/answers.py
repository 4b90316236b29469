"""What a cell's run answered to each query sentence, and the part of it that the error browser shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from fewtable.corpus import Sentence, Task
from fewtable.errors import DataError
from fewtable.files import digest
from fewtable.formats.base import Parsed
from fewtable.predictions import read_predictions, read_tasks
from fewtable.report.marks import KINDS, Mark, align
from fewtable.tables.model import CellFile

SENTENCES = 100
"""Most query sentences of a draw that the browser holds."""
DRAWS = 3
"""Most draws of a cell that the browser holds."""
DROPPED, MOST_DROPPED = 200, 5
"""Most characters of a dropped part of an output, and most such parts of a sentence, that the browser holds."""


@dataclass
class Answers:
    """Counts over all query sentences of a cell, and the sentences that are shown."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys([*KINDS, "dropped"], 0))
    confusions: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(gold type, predicted type) of ``type`` marks."""
    asked: int = 0
    """Query sentences over all draws."""
    shown: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    """Draw -> sentences with marks, as the browser's script reads them."""

    @property
    def top_confusions(self) -> list[tuple[tuple[str, str], int]]:
        """The five most frequent confusions, ties by name."""
        return sorted(self.confusions.items(), key=lambda item: (-item[1], item[0]))[:5]


class Reader:
    """Reads samples and sentences once for all cells that share them."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._tasks = cache(partial(read_tasks, results))

    def answers(self, cell: CellFile, key: str) -> Answers | None:
        """Return what a cell's run answered; None when its predictions, samples or data are not there."""
        found = Answers()
        try:
            for task, said in self._blocks(cell, key):
                self._add(found, task, said)
        except DataError:
            return None
        return found

    def _blocks(self, cell: CellFile, key: str) -> Iterator[tuple[Task, dict[str, Parsed]]]:
        for block in cell["blocks"]:
            path = self._results / "runs" / key / block / f"predictions.{cell['query']}.jsonl"
            predictions = read_predictions(path)
            for task in self._tasks(cell["dataset"], cell["setting"], block):
                yield task, predictions.get(task.draw, {})

    @staticmethod
    def _add(found: Answers, task: Task, said: dict[str, Parsed]) -> None:
        room = len(found.shown) < DRAWS
        chosen = choose(task.query, SENTENCES) if room else frozenset()
        shown = []
        for sentence in task.query:
            parsed = said.get(sentence.id, Parsed(()))
            marks = align(sentence.entities, parsed.entities)
            found.asked += 1
            found.counts["dropped"] += len(parsed.dropped)
            for mark in marks:
                found.counts[mark.kind] += 1
                if mark.kind == "type" and mark.gold and mark.predicted:
                    found.confusions[mark.gold.type, mark.predicted.type] += 1
            if sentence.id in chosen:
                shown.append(_shown(sentence, marks, parsed))
        if room:
            found.shown[task.draw] = shown


def choose(sentences: tuple[Sentence, ...], limit: int) -> frozenset[str]:
    """Return the ids of at most ``limit`` sentences: the same ones for every method, draw and process."""
    return frozenset(sorted((s.id for s in sentences), key=lambda i: digest(["shown", i]))[:limit])


def _shown(sentence: Sentence, marks: list[Mark], parsed: Parsed) -> dict[str, Any]:
    return {
        "id": sentence.id,
        "words": sentence.words,
        "marks": [[m.kind, m.gold, m.predicted] for m in marks],
        "dropped": [[d.cause, d.text[:DROPPED]] for d in parsed.dropped[:MOST_DROPPED]],
    }
