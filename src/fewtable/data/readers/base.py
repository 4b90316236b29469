"""What a reader is: one raw format -> raw sentences, with the place of every fault.

A reader is one module of this package with ``Options`` (its YAML options) and
``read(paths, options)``. Entities carry the tag names of the file; normalise renames and checks them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewtable.corpus import Entity, Scheme, tags_to_entities
from fewtable.errors import DataError

_PREFIXES = {
    "iob2": re.compile(r"O|[BI]-.+", re.DOTALL),
    "iob2-strict": re.compile(r"O|[BI]-.+", re.DOTALL),
    "iob1": re.compile(r"O|[BI]-.+", re.DOTALL),
    "bioes": re.compile(r"O|[BIES]-.+", re.DOTALL),
    "io": re.compile(r".+", re.DOTALL),
}


@dataclass(frozen=True, slots=True)
class RawSentence:
    """Words and entities as a file has them; ``where`` is ``file:line`` of the first word."""

    words: tuple[str, ...]
    entities: tuple[Entity, ...]
    where: str
    step: int = 0
    """Lines from one word to the next: 1 where each word has a line of its own."""
    glued: tuple[int, ...] = ()
    source: str = ""
    """Both as in ``fewtable.corpus.Sentence``."""

    def at(self, word: int) -> str:
        """Return ``file:line`` of a word."""
        path, _, line = self.where.rpartition(":")
        return f"{path}:{int(line) + word * self.step}" if self.step else self.where


@dataclass(frozen=True, slots=True)
class Episode:
    """An official episode: raw type names in label order, support and query, and where it comes from."""

    types: tuple[str, ...]
    support: tuple[RawSentence, ...]
    query: tuple[RawSentence, ...]
    k: int | None
    """Shots, when the file's name says so."""
    most: int | None
    """The most mentions of a type that the release allows in a support; None: no bound."""
    origin: dict[str, str | int]
    """What names the episode in its release: file, line or domain and index."""


def key(sentence: RawSentence) -> tuple[tuple[str, ...], tuple[Entity, ...]]:
    """Return what makes two sentences of episode files the same one."""
    return sentence.words, sentence.entities


def distinct(episodes: Iterable[Episode]) -> Iterator[RawSentence]:
    """Yield each sentence of the episodes once, in the order of first appearance."""
    seen = set()
    for episode in episodes:
        for sentence in (*episode.support, *episode.query):
            if (identity := key(sentence)) not in seen:
                seen.add(identity)
                yield sentence


def lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Yield (line number, text) of a UTF-8 file without the line end and without a byte order mark.

    Only LF (or CR LF) ends a line: tweets hold U+0085 and U+2028. A last line without LF counts.

    Raises:
        DataError: the file is missing or a line is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as stream:
            for number, text in enumerate(stream, 1):
                yield number, text.rstrip("\n").removesuffix("\r")
    except OSError as error:
        fix = "fetch it again: fewtable data fetch"
        raise DataError(f"cannot read the raw file: {error.strerror}", where=str(path), fix=fix) from None
    except UnicodeDecodeError:
        raise _not_utf8(path) from None


def _not_utf8(path: Path) -> DataError:
    """Return the error that names the first line that is not UTF-8."""
    number, reason = 0, ""
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):  # noqa: B007
            try:
                raw.decode()
            except UnicodeDecodeError as error:
                reason = f"{error.reason} at byte {error.start}"
                break
    return DataError(f"not UTF-8: {reason}", where=f"{path}:{number}", fix="convert the file to UTF-8")


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSON-lines file; empty lines are passed over."""
    for number, text in lines(path):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(
                f"not JSON: {error.msg}", where=f"{path}:{number}", fix="each line must be one JSON object"
            ) from None
        if not isinstance(row, dict):
            raise DataError(
                "the line is not a JSON object",
                where=f"{path}:{number}",
                fix="each line must be one JSON object",
            )
        yield number, row


def field(row: Any, key: str, kind: type, where: str) -> Any:
    """Return ``row[key]``; raise DataError when ``row`` is no object, lacks the key or has no ``kind`` there."""
    if not isinstance(row, dict):
        raise DataError(f"{row!r:.60} stands where an object with '{key}' must", where=where, fix="mend the line")
    if key not in row:
        raise DataError(f"the key '{key}' is missing", where=where, fix=f"the line has: {', '.join(sorted(row))}")
    value = row[key]
    if not isinstance(value, kind):
        raise DataError(f"'{key}' is a {type(value).__name__}, not a {kind.__name__}", where=where, fix="mend the line")
    return value


def words_of(value: Sequence[Any], where: str) -> tuple[str, ...]:
    """Return a list of strings as words; raise DataError when one is no string."""
    for word in value:
        if not isinstance(word, str):
            raise DataError(f"the word {word!r} is not a string", where=where, fix="mend the line")
    return tuple(value)


def check_tag(tag: str, scheme: Scheme, where: str) -> None:
    """Raise DataError when ``tag`` cannot stand in ``scheme``."""
    if not _PREFIXES[scheme].fullmatch(tag):
        wanted = "a type name or O" if scheme == "io" else "O, B-TYPE or I-TYPE"
        wanted += ", E-TYPE or S-TYPE" if scheme == "bioes" else ""
        raise DataError(
            f"unknown tag '{tag}': {scheme} has {wanted}",
            where=where,
            fix="mend the line, or 'tag', 'scheme' or 'blank' in the dataset's options",
        )


def tagged(words: Sequence[str], tags: Sequence[str], scheme: Scheme, where: str, step: int = 0) -> RawSentence:
    """Return a raw sentence from one tag a word; ``step`` as in RawSentence.

    Raises:
        DataError: the numbers differ or a tag cannot stand in ``scheme``.
    """
    if len(words) != len(tags):
        raise DataError(f"{len(words)} words but {len(tags)} tags", where=where, fix="each word needs exactly one tag")
    for tag in dict.fromkeys(tags):
        check_tag(tag, scheme, where)
    return RawSentence(tuple(words), tags_to_entities(tags, scheme), where, step)


def span(start: Any, end: Any, kind: Any, length: int, where: str) -> Entity:
    """Return an entity from values read; raise DataError when it lies outside ``length`` words."""
    if not (type(start) is int and type(end) is int and isinstance(kind, str)):
        raise DataError(f"not an entity: [{start!r}, {end!r}, {kind!r}]", where=where, fix="write [start, end, type]")
    if not 0 <= start < end <= length:
        raise DataError(
            f"the entity [{start}, {end}, {kind}] lies outside the {length} words",
            where=where,
            fix="start counts from 0, end is exclusive",
        )
    return Entity(start, end, kind)


def pieces(text: RawSentence, ends: Iterable[int]) -> Iterator[RawSentence]:
    """Yield the pieces of a text up to each word index of ``ends`` and the last word; no cut falls inside an entity."""
    inside = {i for e in text.entities for i in range(e.start + 1, e.end)}
    start = 0
    for end in sorted({*ends, len(text.words)} - inside):
        if end > start:
            kept = (e for e in text.entities if start <= e.start < end)
            entities = tuple(Entity(e.start - start, e.end - start, e.type) for e in kept)
            yield RawSentence(text.words[start:end], entities, text.where)
            start = end


def wrong_files(paths: Sequence[Path], count: int, what: str) -> DataError:
    """Return the error for a split that does not name the ``count`` files that the reader takes (``what``)."""
    return DataError(
        f"the reader takes {count} files ({what}), the split names {len(paths)}",
        where=str(paths[0]) if paths else None,
        fix="mend 'files' of the split in the dataset's YAML",
    )
