"""Sentences that this project wrote: a teacher's annotations, or the splits of datasets that are mixed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Annotated

from pydantic import Field

from fewtable.corpus import Sentence, read_sentences
from fewtable.data.readers.base import RawSentence
from fewtable.files import stable_seed
from fewtable.specs import Spec


class Options(Spec):
    """How files are mixed."""

    mixed: bool = False
    """Each file is a dataset, named as the file: it is the sentences' source, and types are named DATASET/TYPE."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Most sentences of a file, drawn at random; they keep their order."""


def read(paths: Sequence[Path], options: Options) -> Iterator[RawSentence]:
    """Yield the sentences; raise DataError where a line is malformed (file:line)."""
    for path in paths:
        sentences = list(enumerate(read_sentences(path), 1))
        if options.limit is not None and options.limit < len(sentences):
            sentences = sorted(Random(stable_seed("mixture", path.stem)).sample(sentences, options.limit))
        for number, sentence in sentences:
            yield _raw(sentence, path.stem if options.mixed else "", f"{path}:{number}")


def _raw(sentence: Sentence, source: str, where: str) -> RawSentence:
    entities = sentence.entities
    if source:
        entities = tuple(entity._replace(type=f"{source}/{entity.type}") for entity in entities)
    return RawSentence(sentence.words, entities, where, glued=sentence.glued, source=source)
