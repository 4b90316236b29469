"""Viterbi decoding, the abstract transitions of StructShot (Yang & Katiyar 2020; methods/fs-01), and those of BIOES."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewtable.corpus import Sentence, entities_to_tags
from fewtable.errors import DataError
from fewtable.files import read_json, write_json

FILE = "transitions.json"
FLOOR = 1e-6
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """How often IO tags follow each other, whatever the type."""

    start: tuple[int, int]
    """First word of a sentence: O, I."""
    outside: tuple[int, int]
    """After O: O, I."""
    inside: tuple[int, int, int]
    """After I: O, I of the same type, I of another type."""


def count(sentences: Iterable[Sentence]) -> Counts:
    """Count transitions on the word-level IO tags of ``sentences``."""
    start, outside, inside = [0, 0], [0, 0], [0, 0, 0]
    for sentence in sentences:
        tags = entities_to_tags(sentence.entities, len(sentence.words), "io")
        for position, tag in enumerate(tags):
            if position == 0:
                start[tag != "O"] += 1
            elif tags[position - 1] == "O":
                outside[tag != "O"] += 1
            else:
                inside[0 if tag == "O" else 1 if tag == tags[position - 1] else 2] += 1
    return Counts((start[0], start[1]), (outside[0], outside[1]), (inside[0], inside[1], inside[2]))


def write_counts(folder: Path, counts: Counts) -> None:
    """Write ``counts`` beside a model."""
    write_json(folder / FILE, {"start": counts.start, "outside": counts.outside, "inside": counts.inside})


def read_counts(folder: Path) -> Counts:
    """Read what ``write_counts`` wrote."""
    value: Any = read_json(folder / FILE)
    try:
        return Counts(tuple(value["start"]), tuple(value["outside"]), tuple(value["inside"]))
    except (KeyError, TypeError) as error:
        raise DataError(f"not transition counts: {error!r}", where=str(folder / FILE)) from None


def expand(counts: Counts, types: int, tau: float) -> tuple[Array, Array]:
    """Spread abstract transitions over O (index 0) and ``types`` types.

    Every probability is raised to ``tau`` and its row normalised again: a small tau makes the transitions weak.

    Returns:
        start (types + 1) and transition (types + 1, types + 1; from, to) probabilities. Rows sum to 1.
    """
    start = _shares(counts.start)
    outside = _shares(counts.outside)
    inside = _shares(counts.inside) if types > 1 else np.append(_shares(counts.inside[:2]), 0.0)
    first = np.append(start[0], np.full(types, start[1] / types))
    table = np.empty((types + 1, types + 1))
    table[0] = np.append(outside[0], np.full(types, outside[1] / types))
    table[1:, 0] = inside[0]
    table[1:, 1:] = inside[2] / max(types - 1, 1)
    np.fill_diagonal(table[1:, 1:], inside[1])
    return _sharpen(first, tau), _sharpen(table, tau)


def _shares(numbers: Sequence[int]) -> Array:
    total = sum(numbers)
    return np.array(numbers) / total if total else np.full(len(numbers), 1 / len(numbers))


def _sharpen(probabilities: Array, tau: float) -> Array:
    # A zero stays a zero under the power, so that an unseen transition is floored and not lifted by a small tau.
    powered: Array = np.where(probabilities > 0, probabilities**tau, 0.0)
    powered /= powered.sum(-1, keepdims=True)
    return powered


def log_floored(probabilities: Array) -> Array:
    """Return the logarithm of transition probabilities; zeros count as 1e-6."""
    logs: Array = np.log(np.maximum(probabilities, FLOOR))
    return logs


def bioes() -> tuple[Array, Array]:
    """Return scores of tags in the order O, B, I, E, S: 0, and -inf from tags that another may not follow.

    Any tag may be the first, as in the release of DecomMeta (methods/fs-06): what it leaves incomplete is no span.

    Returns:
        start (5) and transition (5, 5; from, to).
    """
    inside = np.array([False, False, True, True, False])
    table = np.where(np.array([False, True, True, False, False])[:, None] == inside, 0.0, -np.inf)
    return np.zeros(5), table


def abstract_paths(emissions: Sequence[Array], counts: Counts, types: int, tau: float) -> list[list[int]]:
    """Return each sentence's best path over O and ``types`` types, by abstract transitions raised to ``tau``."""
    start, table = expand(counts, types, tau)
    return viterbi(emissions, log_floored(start), log_floored(table))


def viterbi(emissions: Sequence[Array], start: Array, table: Array) -> list[list[int]]:
    """Return the path of the largest sum of scores of every sentence; all sentences move together.

    Args:
        emissions: scores (words, classes) of each sentence, such as log probabilities; -inf is allowed.
        start: scores (classes) of the first word's class.
        table: scores (classes, classes; from, to) of a class after another.
    """
    lengths = np.array([len(e) for e in emissions], dtype=int)
    if not lengths.size or not lengths.max():
        return [[] for _ in emissions]
    padded = np.zeros((len(emissions), lengths.max(), len(start)))
    for row, scores in enumerate(emissions):
        padded[row, : len(scores)] = scores
    best = start + padded[:, 0]
    back = np.zeros(padded.shape, dtype=int)
    for position in range(1, padded.shape[1]):
        options = best[:, :, None] + table
        back[:, position] = options.argmax(1)
        moved = options.max(1) + padded[:, position]
        best = np.where((position < lengths)[:, None], moved, best)
    return [_follow(back[row], int(best[row].argmax()), n) for row, n in enumerate(lengths)]


def _follow(back: NDArray[np.int_], last: int, length: int) -> list[int]:
    path = [last] if length else []
    for position in range(length - 1, 0, -1):
        path.append(int(back[position, path[-1]]))
    return path[::-1]
