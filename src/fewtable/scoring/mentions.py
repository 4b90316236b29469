"""Entity sets as arrays: one flat text, one integer key a mention, so that scoring is sorting and counting.

The objects are those of methods/fs-12 (canonical objects): sets of (start, end, type) in words, ``end`` exclusive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewtable.errors import DataError

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Spans = Iterable[tuple[int, int, str]]
"""The (start, end, type) of one sentence, in any order."""


class Counts(NamedTuple):
    """True positives, false positives, false negatives; halves occur where matches count half."""

    tp: float
    fp: float
    fn: float

    @property
    def precision(self) -> float:
        """Percent of predictions that are right, 0 when there are none."""
        return 100 * self.tp / (self.tp + self.fp) if self.tp + self.fp else 0.0

    @property
    def recall(self) -> float:
        """Percent of gold that was found, 0 when there is none."""
        return 100 * self.tp / (self.tp + self.fn) if self.tp + self.fn else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall in percent, 0 when there is nothing to find and nothing found."""
        size = 2 * self.tp + self.fp + self.fn
        return 200 * self.tp / size if size else 0.0


@dataclass(frozen=True, slots=True)
class Frame:
    """The sentences and types that two sides share."""

    offsets: Ints
    """(sentences + 1,): where each sentence begins in the flat text."""
    types: tuple[str, ...]

    @classmethod
    def of(cls, lengths: Sequence[int], types: Iterable[str]) -> Frame:
        """Return the frame of sentences with ``lengths`` words; types are sorted."""
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(lengths, np.int64, len(lengths)), out=offsets[1:])
        return cls(offsets, tuple(sorted(set(types))))

    @property
    def words(self) -> int:
        """Number of words in all."""
        return int(self.offsets[-1])

    @property
    def width(self) -> int:
        """One more than the longest sentence: the base of a mention's length in its key."""
        return int(np.diff(self.offsets).max(initial=0)) + 1

    def sentence(self, position: Ints) -> Ints:
        """Return the sentence index of flat word positions."""
        return np.asarray(np.searchsorted(self.offsets, position, side="right") - 1, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Mentions:
    """Distinct mentions in text order; ``start`` and ``end`` are positions in the flat text."""

    key: Ints
    start: Ints
    end: Ints
    type: Ints

    def __len__(self) -> int:
        return len(self.key)

    @classmethod
    def build(cls, frame: Frame, start: Ints, end: Ints, kind: Ints) -> Mentions:
        """Return the distinct mentions among (start, end, type index) triples."""
        width, types = frame.width, max(len(frame.types), 1)
        key = (start * width + (end - start)) * types + kind
        if (key[1:] <= key[:-1]).any():
            key = np.sort(key)  # numpy's own unique hashes first, which is slower on keys that are nearly in order
            key = key[np.append(True, key[1:] != key[:-1])]
        place, kind = np.divmod(key, types)
        start, length = np.divmod(place, width)
        return cls(key, start, start + length, kind)

    @classmethod
    def of(cls, frame: Frame, sentences: Sequence[Spans]) -> Mentions:
        """Return the mentions of a list of entity lists, one a sentence.

        Raises:
            DataError: an entity lies outside its sentence.
        """
        index = {name: i for i, name in enumerate(frame.types)}
        flat = chain.from_iterable(
            (i, start, end, index[kind]) for i, spans in enumerate(sentences) for start, end, kind in spans
        )
        table = np.fromiter(flat, dtype=np.int64).reshape(-1, 4)
        sentence, start, end, kind = table.T
        length = np.diff(frame.offsets)[sentence]
        wrong = np.flatnonzero((start < 0) | (end <= start) | (end > length))
        if len(wrong):
            i, first, last, name = table[wrong[0]].tolist()
            raise DataError(
                f"entity {[first, last, frame.types[name]]} lies outside sentence {i} "
                f"({int(np.diff(frame.offsets)[i])} words)",
                fix="entities are [start, end, type] in words, start from 0, end exclusive",
            )
        base = frame.offsets[sentence]
        return cls.build(frame, base + start, base + end, kind)

    def untyped(self, frame: Frame) -> Mentions:
        """Return the distinct spans: the same mentions with one type for all."""
        return Mentions.build(Frame(frame.offsets, ("",)), self.start, self.end, np.zeros_like(self.type))

    def take(self, where: Bools) -> Mentions:
        """Return the mentions where the mask holds."""
        return Mentions(self.key[where], self.start[where], self.end[where], self.type[where])


def found_in(these: Mentions, those: Mentions) -> Bools:
    """Return for each of ``these`` whether it is among ``those``."""
    if not len(those):
        return np.zeros(len(these), dtype=np.bool_)
    place = np.searchsorted(those.key, these.key)
    return np.asarray(those.key[np.minimum(place, len(those) - 1)] == these.key)


def count(gold: Mentions, pred: Mentions) -> Counts:
    """Return the micro counts of two entity sets."""
    hits = int(found_in(pred, gold).sum())
    return Counts(hits, len(pred) - hits, len(gold) - hits)


def count_types(frame: Frame, gold: Mentions, pred: Mentions) -> dict[str, Counts]:
    """Return the counts of each type that occurs on either side, in the frame's order."""
    size = len(frame.types)
    hits = np.bincount(pred.type[found_in(pred, gold)], minlength=size)
    found, wanted = np.bincount(pred.type, minlength=size), np.bincount(gold.type, minlength=size)
    columns = zip(frame.types, hits.tolist(), found.tolist(), wanted.tolist(), strict=True)
    return {name: Counts(tp, p - tp, g - tp) for name, tp, p, g in columns if p or g}


def count_rows(frame: Frame, gold: Mentions, pred: Mentions) -> list[tuple[int, int, int, int, int]]:
    """Return (sentence, type index, tp, fp, fn) of each sentence and type that has any, sorted."""
    size = max(len(frame.types), 1)
    gold_cell = frame.sentence(gold.start) * size + gold.type
    pred_cell = frame.sentence(pred.start) * size + pred.type
    cells, place = np.unique(np.concatenate([gold_cell, pred_cell]), return_inverse=True)
    in_gold, in_pred = place[: len(gold)], place[len(gold) :]
    hits = np.bincount(in_pred[found_in(pred, gold)], minlength=len(cells))
    wrong = np.bincount(in_pred, minlength=len(cells)) - hits
    missed = np.bincount(in_gold, minlength=len(cells)) - hits
    sentence, kind = np.divmod(cells, size)
    columns = (sentence, kind, hits, wrong, missed)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def macro_type(types: Iterable[Counts]) -> float:
    """Return the unweighted mean of the types' F1 in percent (a diagnostic, methods/fs-12), 0 without types."""
    scores = [counts.f1 for counts in types]
    return sum(scores) / len(scores) if scores else 0.0
