"""What the template method learns from: the entities of a sentence, and other spans of it (methods/05, Model)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from fewtable.corpus import Sentence
from fewtable.files import stable_seed

Labelled = tuple[int, int, str | None]
"""A span of words [start, end) with its type; None: no entity."""


def spans(words: int, longest: int) -> list[tuple[int, int]]:
    """Return all spans [start, end) of at most ``longest`` of ``words`` words, by start, then end."""
    return [(i, j) for i in range(words) for j in range(i + 1, min(i + longest, words) + 1)]


def labelled_spans(sentences: Sequence[Sentence], longest: int, negatives: float, seed: int) -> list[list[Labelled]]:
    """Return the spans that each sentence is to teach, its entities first.

    Of the spans that are no entity, ``negatives`` times as many as there are entities are drawn, uniformly in each
    sentence; what is less than one goes over to the next sentence. Every sentence gives at least one, if it has one.

    Args:
        sentences: the support.
        longest: most words of a span that is no entity.
        negatives: how many an entity; 0 draws none at all.
        seed: decides which.
    """
    found = []
    entities = drawn = 0
    for number, sentence in enumerate(sentences):
        gold = {(start, end) for start, end, _ in sentence.entities}
        others = [span for span in spans(len(sentence.words), longest) if span not in gold]
        entities += len(sentence.entities)
        due = int(negatives * entities) - drawn
        drawn += due
        size = min(max(due, 1), len(others)) if negatives else 0
        chosen = random.Random(stable_seed("negatives", seed, number)).sample(others, size)
        found.append([*sentence.entities, *((start, end, None) for start, end in sorted(chosen))])
    return found
