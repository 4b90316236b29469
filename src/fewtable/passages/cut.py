"""Documents -> passages: white space made one, cut at sentence ends where possible (methods/12, pipeline 1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from fewtable.passages.count import Count

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n")
_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?= )")
_OPENERS = "\"'“‘(["
_ABBREVIATION = re.compile(
    r"[A-Z]|(?i:mrs?|ms|dr|prof|st|sr|jr|vs|etc|e\.g|i\.e|cf|nos?|vols?|figs?|eqs?|secs?|ch|pp|al|ca|approx|inc|ltd|co|corp"
    r"|gen|col|lt|sgt|capt|rev|hon|sen|rep|gov|dept|est|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)"
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document on one line, and its length."""

    text: str
    tokens: int
    hard: bool
    """Whether it was cut off inside a sentence."""


class _Piece(NamedTuple):
    start: int
    end: int
    length: int
    ends: bool
    """Whether a sentence ends with it."""


def normalise(text: str) -> str:
    """Return the text with each run of white space as one space, stripped; lone surrogates become '?'."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def sentences(text: str) -> list[str]:
    """Return the sentences of a document, each normalised; a sentence ends with its paragraph at the latest.

    An end is a mark, and a space before what is not a small letter; a single dot after an initial or a
    well-known abbreviation is none.
    """
    found = []
    for paragraph in _PARAGRAPH.split(text):
        line, start = normalise(paragraph), 0
        for match in _END.finditer(line):
            after = line[match.end() + 1 : match.end() + 4].lstrip(_OPENERS)
            before = line[start : match.start()].rpartition(" ")[2].lstrip(_OPENERS)
            if not after[:1].islower() and not (match[0] == "." and _ABBREVIATION.fullmatch(before)):
                found.append(line[start : match.end()])
                start = match.end() + 1
        if line[start:]:
            found.append(line[start:])
    return found


def cut(document: str, count: Count, limit: int) -> Iterator[Passage]:
    """Yield the passages of a document in order: as many whole sentences as fit, else as many words, else characters.

    Args:
        document: raw text.
        count: measures texts.
        limit: most tokens of a passage; none is longer.
    """
    found = sentences(document)
    text = " ".join(found)
    spans, start = [], 0
    for sentence in found:
        spans.append((start, start + len(sentence)))
        start += len(sentence) + 1
    left = _pieces(text, spans, count, True)
    left.reverse()  # taken from its end
    while left:
        taken = _take(left, limit)
        length = _length(text, taken, count)
        while length > limit and len(taken) > 1:  # together they are longer than one by one
            left.append(taken.pop())
            length = _length(text, taken, count)
        if length > limit and taken[0].end - taken[0].start > 1:
            left.extend(reversed(_halve(text, taken[0], count)))
            continue
        yield Passage(text[taken[0].start : taken[-1].end], length, not taken[-1].ends)


def _pieces(text: str, spans: list[tuple[int, int]], count: Count, ends: bool) -> list[_Piece]:
    """Measure spans with the space before them: byte-level tokenizers keep it in a word's first token."""
    lengths = count([text[max(start - 1, 0) : end] for start, end in spans])
    last = len(spans) - 1
    return [_Piece(s, e, n, ends or i == last) for i, ((s, e), n) in enumerate(zip(spans, lengths, strict=True))]


def _take(left: list[_Piece], limit: int) -> list[_Piece]:
    """Take as many pieces off the end of ``left`` as fit, at least one.

    They are whole sentences, or begin with words of one that was too long: only those end inside a sentence.
    """
    taken = [left.pop()]
    total = taken[0].length
    while left and total + left[-1].length <= limit:
        taken.append(left.pop())
        total += taken[-1].length
    return taken


def _length(text: str, taken: list[_Piece], count: Count) -> int:
    return count([text[taken[0].start : taken[-1].end]])[0]


def _halve(text: str, piece: _Piece, count: Count) -> list[_Piece]:
    """Return a sentence's words, or the halves of a word; a sentence ends with the last only."""
    start, end, _, ends = piece
    if " " in text[start:end]:
        spans = [(start + m.start(), start + m.end()) for m in re.finditer(r"[^ ]+", text[start:end])]
    else:
        middle = (start + end) // 2
        spans = [(start, middle), (middle, end)]
    parts = _pieces(text, spans, count, False)
    return [*parts[:-1], parts[-1]._replace(ends=ends)]
