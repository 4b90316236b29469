"""Sentences, entities and tasks: the data unit of every stage, its JSONL form, and spans <-> tags.

An entity is (start, end, type) in word indices, ``end`` exclusive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from fewtable.errors import DataError
from fewtable.files import read_jsonl, write_jsonl

_WORD = re.compile(r"[^\W_]+|\S")

Scheme = Literal["iob2", "iob2-strict", "iob1", "io", "bioes"]


class Entity(NamedTuple):
    """A typed span of words: ``start`` inclusive, ``end`` exclusive."""

    start: int
    end: int
    type: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words with gold entities, sorted by (start, end, type). ``id`` is ``SPLIT-000042``."""

    id: str
    words: tuple[str, ...]
    entities: tuple[Entity, ...] = ()
    glued: tuple[int, ...] = ()
    """Indices of words that follow the one before without a space, rising: how raw text is spelled."""
    source: str = ""
    """In a mixture, the dataset that the sentence comes from."""

    @property
    def split(self) -> str:
        """The split that the sentence belongs to."""
        return self.id.rpartition("-")[0]

    @property
    def text(self) -> str:
        """The sentence as it is written."""
        return self.surface(0, len(self.words))

    def surface(self, start: int, end: int) -> str:
        """Return the words from ``start`` to ``end`` (exclusive) as they are written."""
        if not self.glued:
            return " ".join(self.words[start:end])
        glued = set(self.glued)
        spaced = (
            word if i == start or i in glued else " " + word for i, word in enumerate(self.words[:end]) if i >= start
        )
        return "".join(spaced)


@dataclass(frozen=True, slots=True)
class EntityType:
    """A type as methods see it: corpus name, natural words, one-sentence definition."""

    name: str
    words: str
    definition: str


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to learn and be tested on: a draw's types, support sentences and query sentences.

    Entities of types outside ``types`` have been removed from the sentences.
    """

    draw: int
    types: tuple[str, ...]
    support: tuple[Sentence, ...]
    query: tuple[Sentence, ...]
    asked: tuple[tuple[str, ...], ...] = ()
    """The types that each query sentence is asked about, where that is not all of ``types``."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A task by sentence ids, as written to ``samples/``; ``header`` says rule, seed and the counts reached.

    ``asked``: as in Task; empty where every query sentence is asked about all types.
    """

    draw: int
    types: tuple[str, ...]
    support: tuple[str, ...]
    query: tuple[str, ...]
    header: dict[str, Any] = field(default_factory=dict)
    asked: tuple[tuple[str, ...], ...] = ()


def split_words(text: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Split raw text into words: runs of letters and digits, and other characters one by one.

    Returns:
        The words, and the indices of those that no white space stands before (``Sentence.glued``): ``Sentence.text`` is
        the text again, each run of white space as one space.
    """
    found = list(_WORD.finditer(text))
    glued = (i for i, (one, two) in enumerate(pairwise(found), 1) if one.end() == two.start())
    return tuple(m[0] for m in found), tuple(glued)


def sentence_id(split: str, index: int) -> str:
    """Return the id of the ``index``-th (from 0) sentence of ``split``."""
    return f"{split}-{index:06d}"


def write_sentences(path: Path, sentences: Iterable[Sentence]) -> int:
    """Write sentences as JSON lines {id, words, entities: [[start, end, type], ...]}; return their number.

    ``glued`` and ``source`` are written where they say anything.
    """
    return write_jsonl(
        path,
        (
            {"id": s.id, "words": s.words, "entities": s.entities}
            | {key: value for key, value in (("glued", s.glued), ("source", s.source)) if value}
            for s in sentences
        ),
    )


def read_sentences(path: Path) -> list[Sentence]:
    """Read what write_sentences wrote; raise DataError with file:line on a malformed line."""
    out = []
    for number, row in read_jsonl(path):
        try:
            words = tuple(row["words"])
            entities = tuple(sorted(Entity(int(s), int(e), str(t)) for s, e, t in row["entities"]))
            glued = tuple(map(int, row.get("glued", ())))
            identity, source = str(row["id"]), str(row.get("source", ""))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"not a sentence: {error!r}",
                where=f"{path}:{number}",
                fix='each line is {"id": ..., "words": [...], "entities": [[start, end, type], ...]}',
            ) from None
        for entity in entities:
            if not 0 <= entity.start < entity.end <= len(words):
                raise DataError(f"entity {list(entity)} lies outside the sentence", where=f"{path}:{number}")
        out.append(Sentence(identity, words, entities, glued, source))
    return out


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write the samples of a block, one a line."""
    write_jsonl(
        path,
        (
            {"draw": s.draw, "types": s.types, "support": s.support, "query": s.query, "header": s.header}
            | ({"asked": s.asked} if s.asked else {})
            for s in samples
        ),
    )


def read_samples(path: Path) -> list[Sample]:
    """Read what write_samples wrote; raise DataError with file:line on a malformed line."""
    out = []
    for number, row in read_jsonl(path):
        try:
            types, support, query = (tuple(map(str, row[key])) for key in ("types", "support", "query"))
            asked = tuple(tuple(map(str, names)) for names in row.get("asked", ()))
            out.append(Sample(int(row["draw"]), types, support, query, dict(row["header"]), asked))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"not a sample: {error!r}",
                where=f"{path}:{number}",
                fix="remove the file and run its target again: snakemake --cores 1 results/samples/...",
            ) from None
    return out


def restrict(sentence: Sentence, types: Iterable[str]) -> Sentence:
    """Return the sentence with only the entities of ``types``."""
    keep = set(types)
    if all(entity.type in keep for entity in sentence.entities):
        return sentence
    return replace(sentence, entities=tuple(e for e in sentence.entities if e.type in keep))


def build_tasks(samples: Iterable[Sample], splits: Mapping[str, Path]) -> list[Task]:
    """Put sentences in the place of ids.

    Args:
        samples: the samples of a block.
        splits: split name -> data file; only the splits that the samples name are read.

    Raises:
        DataError: a sample names a split or sentence that the data does not have.
    """
    samples = list(samples)
    named = {i.rpartition("-")[0] for s in samples for i in (*s.support, *s.query)}
    if missing := sorted(named - set(splits)):
        raise DataError(f"the sample names split '{missing[0]}', which is not among {sorted(splits)}")
    index = {s.id: s for name in sorted(named) for s in read_sentences(splits[name])}

    def look_up(ids: Sequence[str], types: tuple[str, ...]) -> tuple[Sentence, ...]:
        try:
            return tuple(restrict(index[i], types) for i in ids)
        except KeyError as error:
            raise DataError(
                f"the sample names sentence {error}, which the data does not have",
                fix="remove the sample file: it was drawn from another version of the data",
            ) from None

    return [Task(s.draw, s.types, look_up(s.support, s.types), look_up(s.query, s.types), s.asked) for s in samples]


def tags_to_entities(tags: Sequence[str], scheme: Scheme = "iob2") -> tuple[Entity, ...]:
    """Convert one tag a word to entities (methods/fs-12, canonical objects).

    ``iob2`` is lenient as conlleval is: an I-X that does not continue an X opens an entity.
    ``iob2-strict``: only B-X (I-X)*. ``iob1``: I-X opens, B-X separates neighbours of one type.
    ``io``: maximal runs of one label; an optional B-/I- prefix is taken off.
    ``bioes``: only S-X and B-X (I-X)* E-X.
    """
    if scheme == "bioes":
        return _bioes_to_entities(tags)
    found: list[Entity] = []
    start, kind = -1, ""
    for position, tag in enumerate((*tags, "O")):
        prefix, name = _split_tag(tag, scheme)
        if kind and not (prefix == "I" and name == kind):
            found.append(Entity(start, position, kind))
            kind = ""
        opens = prefix == "B" or (prefix == "I" and not kind and scheme != "iob2-strict")
        if opens:
            start, kind = position, name
    return tuple(found)


def _split_tag(tag: str, scheme: Scheme) -> tuple[str, str]:
    if tag == "O":
        return "O", ""
    if scheme == "io":
        return "I", tag[2:] if tag[:2] in ("B-", "I-") else tag
    return tag[0], tag[2:]


def _bioes_to_entities(tags: Sequence[str]) -> tuple[Entity, ...]:
    found: list[Entity] = []
    start, kind = -1, ""
    for position, tag in enumerate(tags):
        prefix, name = _split_tag(tag, "bioes")
        if prefix == "S":
            found.append(Entity(position, position + 1, name))
            kind = ""
        elif prefix == "B":
            start, kind = position, name
        elif prefix == "E" and name == kind:
            found.append(Entity(start, position + 1, name))
            kind = ""
        elif not (prefix == "I" and name == kind):
            kind = ""
    return tuple(found)


def entities_to_tags(entities: Iterable[Entity], length: int, scheme: Scheme = "iob2") -> list[str]:
    """Convert entities to ``length`` tags; of overlapping entities the longer one stays (then the earlier).

    ``io`` gives bare type names, all other schemes prefixed tags.
    """
    tags = ["O"] * length
    for start, end, kind in sorted(drop_overlaps(entities)):
        size = end - start
        if scheme == "io":
            tags[start:end] = [kind] * size
        elif scheme == "bioes":
            inner = [f"I-{kind}"] * (size - 2)
            tags[start:end] = [f"S-{kind}"] if size == 1 else [f"B-{kind}", *inner, f"E-{kind}"]
        elif scheme == "iob1":
            neighbour = start > 0 and tags[start - 1][2:] == kind
            tags[start:end] = ["B-" + kind if neighbour else "I-" + kind] + ["I-" + kind] * (size - 1)
        else:
            tags[start:end] = ["B-" + kind] + ["I-" + kind] * (size - 1)
    return tags


def drop_overlaps(entities: Iterable[Entity]) -> list[Entity]:
    """Keep a flat subset: longer entities first, then earlier ones, then by type."""
    return without_overlap(sorted(entities, key=lambda e: (e.start - e.end, e.start, e.type)))


class _Span(Protocol):
    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...


S = TypeVar("S", bound=_Span)


def without_overlap(best_first: Iterable[S]) -> list[S]:
    """Keep each span that shares no word with one kept before it."""
    kept: list[S] = []
    for span in best_first:
        if all(span.end <= other.start or other.end <= span.start for other in kept):
            kept.append(span)
    return kept
