"""Lexicon: the entity strings of the support, found again in the query. A floor that any method must beat."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fewtable.corpus import Entity, Sentence, Task
from fewtable.families.base import Fit, Job
from fewtable.files import read_json, write_json
from fewtable.specs import Spec

BACKBONES = frozenset({"none"})
OUTPUT = "spans"


class Train(Spec):
    """What counts as the same string."""

    lower: bool = True
    """Ignore case."""


class Decode(Spec):
    """Decoding has no options."""


Entries = dict[tuple[str, ...], str]


def collect(support: Iterable[Sentence], types: Sequence[str], lower: bool) -> Entries:
    """Return each entity string of the support with its most frequent type (ties: the first in ``types``)."""
    counts: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for sentence in support:
        for start, end, kind in sentence.entities:
            counts[_key(sentence.words[start:end], lower)][kind] += 1
    return {
        words: max(types, key=lambda t, seen=seen: seen[t])  # type: ignore[misc]
        for words, seen in sorted(counts.items())
    }


def match(words: Sequence[str], entries: Entries, lower: bool) -> list[Entity]:
    """Return the entries found in ``words``: from left to right, the longest first, none overlapping."""
    longest = max(map(len, entries), default=0)
    text = _key(words, lower)
    found: list[Entity] = []
    start = 0
    while start < len(text):
        ends = range(min(len(text), start + longest), start, -1)
        end = next((e for e in ends if text[start:e] in entries), None)
        if end is None:
            start += 1
        else:
            found.append(Entity(start, end, entries[text[start:end]]))
            start = end
    return found


def _key(words: Sequence[str], lower: bool) -> tuple[str, ...]:
    return tuple(w.lower() for w in words) if lower else tuple(words)


class _Session:
    def __init__(self, train: Train) -> None:
        self._lower = train.lower

    def fit(self, task: Task, fit: Fit) -> None:
        entries = collect(task.support, task.types, self._lower)
        rows = [{"words": words, "type": kind} for words, kind in entries.items()]
        write_json(fit.model / "lexicon.json", rows)

    def decode(self, task: Task, model: Path) -> Iterator[Any]:
        entries = {tuple(row["words"]): row["type"] for row in read_json(model / "lexicon.json")}
        for sentence in task.query:
            yield [list(entity) for entity in match(sentence.words, entries, self._lower)]


def load(job: Job) -> _Session:
    """Return a session; there is nothing to load."""
    return _Session(Train.model_validate(job.spec.train))
