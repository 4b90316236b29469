"""Peers' chunk rules on raw tags: conlleval, seqeval default, seqeval strict (IOB2), vectorised.

Rules after conlleval.pl (Tjong Kim Sang, version of 2004) and seqeval 1.2.2 (``get_entities``; ``scheme.IOB2``).
Only words that carry a tag are looked at, and tags are compared as small integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Literal, get_args

import numpy as np

from fewtable.errors import DataError
from fewtable.scoring.mentions import Bools, Frame, Ints, Mentions

ChunkRule = Literal["conlleval", "seqeval-default", "seqeval-strict"]
CHUNK_RULES: tuple[ChunkRule, ...] = get_args(ChunkRule)

_PREFIXES = {"O": 0, "B": 1, "I": 2, "E": 3, "S": 4, ".": 5}
_OTHER = 6
_O, _B, _I, _DOT = 0, 1, 2, 5


def _table(*pairs: str) -> Bools:
    """Return a (7, 7) truth table of (earlier prefix, later prefix); ``*`` stands for any."""
    table = np.zeros((_OTHER + 1, _OTHER + 1), dtype=np.bool_)
    for pair in pairs:
        first, second = pair[0], pair[1]
        rows = slice(None) if first == "*" else _PREFIXES[first]
        table[rows, slice(None) if second == "*" else _PREFIXES[second]] = True
    return table


_STARTS = {
    "conlleval": _table("BB", "IB", "OB", "OI", "EE", "EI", "OE"),
    "seqeval-default": _table("*B", "*S", "EE", "EI", "SE", "SI", "OE", "OI"),
}
_ENDS = {
    "conlleval": _table("BB", "BO", "IB", "IO", "EE", "EI", "EO"),
    "seqeval-default": _table("E*", "S*", "BB", "BS", "BO", "IB", "IS", "IO"),
}


def _split(tag: str, rule: ChunkRule) -> tuple[str, str]:
    """Split a tag into prefix and type as the peer does."""
    if not tag:
        raise DataError("an empty tag", fix="words outside entities have the tag O")
    if rule == "conlleval":
        prefix, _, name = tag.partition("-")
        return prefix, name
    if rule == "seqeval-default":
        return tag[0], tag[1:].split("-", maxsplit=1)[-1] or "_"
    if tag[0] not in "BIO":
        raise DataError(
            f"tag '{tag}' is not IOB2",
            fix="seqeval-strict reads O, B-TYPE and I-TYPE only; take seqeval-default or another scorer",
        )
    return tag[0], tag[1:].strip("-") or "_"


def tag_mentions(
    gold: Sequence[Sequence[str]], pred: Sequence[Sequence[str]], rule: ChunkRule
) -> tuple[Frame, Mentions, Mentions]:
    """Read the chunks of two tag sequences as a peer's scorer reads them.

    Args:
        gold: one tag a word, a list a sentence.
        pred: the same shape.
        rule: the peer.

    Raises:
        DataError: sentences or words differ in number, or a tag is not one that the peer accepts.
    """
    lengths = list(map(len, gold))
    if lengths != list(map(len, pred)):
        raise DataError(
            f"gold and prediction differ in shape: {len(gold)} and {len(pred)} sentences, "
            f"{sum(lengths)} and {sum(map(len, pred))} tags"
        )
    known = sorted({*chain.from_iterable(gold), *chain.from_iterable(pred)} - {"O"})
    codes = {tag: i for i, tag in enumerate(["O", *known])}
    flat = [
        np.fromiter(map(codes.__getitem__, chain.from_iterable(side)), np.int64, sum(lengths)) for side in (gold, pred)
    ]
    parts = [_split(tag, rule) for tag in codes]
    frame = Frame.of(lengths, (name for _, name in parts))
    index = {name: i for i, name in enumerate(frame.types)}
    prefix = np.array([_PREFIXES.get(letter, _OTHER) for letter, _ in parts], dtype=np.int64)
    kind = np.array([index[name] for _, name in parts], dtype=np.int64)
    first, last = frame.offsets[:-1], frame.offsets[1:]
    filled = last > first
    begins, closes = (np.zeros(frame.words, dtype=np.bool_) for _ in range(2))
    begins[first[filled]] = True
    closes[last[filled] - 1] = True
    found = [_chunks(frame, side, (begins, closes), (prefix, kind), rule) for side in flat]
    return frame, found[0], found[1]


def _chunks(
    frame: Frame, codes: Ints, edges: tuple[Bools, Bools], tags: tuple[Ints, Ints], rule: ChunkRule
) -> Mentions:
    prefix, kind = tags
    at = np.flatnonzero((prefix != _O)[codes])
    here, k = prefix[codes[at]], kind[codes[at]]
    before = np.where(edges[0][at], 0, codes[at - 1])
    after = np.where(edges[1][at], 0, codes[np.minimum(at + 1, frame.words - 1)])
    if rule == "seqeval-strict":
        goes_on = (here == _I) & (prefix[before] != _O) & (kind[before] == k)
        starts = ~goes_on
        ends = ~((prefix[after] == _I) & (kind[after] == k))
    else:
        starts = _STARTS[rule][prefix[before], here] | ((here != _DOT) & (kind[before] != k))
        ends = _ENDS[rule][here, prefix[after]] | ((here != _DOT) & (kind[after] != k))
    opened = np.maximum.accumulate(np.where(starts, np.arange(len(at)), 0))
    if rule == "seqeval-strict":
        ends &= here[opened] == _B
    return Mentions.build(frame, at[opened[ends]], at[ends] + 1, k[ends])
