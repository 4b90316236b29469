"""Parallel files: words, one tag a word, and optionally intents, a sentence a line (ATIS)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from fewtable.corpus import Scheme
from fewtable.data.readers import base
from fewtable.data.readers.base import RawSentence
from fewtable.errors import DataError
from fewtable.specs import Spec


class Options(Spec):
    """How tags are written."""

    scheme: Scheme = "iob2"


def read(paths: Sequence[Path], options: Options) -> Iterator[RawSentence]:
    """Yield the sentences of files in the order words, tags, and optionally labels (only counted).

    Raises:
        DataError: the files differ in lines, or a line in words and tags.
    """
    if len(paths) not in (2, 3):
        raise base.wrong_files(paths, 2, "words and tags, optionally labels")
    words_path = paths[0]
    for number, rows in enumerate(zip_longest(*(base.lines(path) for path in paths)), 1):
        for path, row in zip(paths, rows, strict=True):
            if row is None:
                raise DataError(
                    f"the file ends before line {number}, which {words_path.name} or its companions have",
                    where=f"{path}:{number}",
                    fix="parallel files must have the same number of lines; fetch them again",
                )
        words, tags = rows[0][1].split(), rows[1][1].split()
        if words or tags:
            yield base.tagged(words, tags, options.scheme, f"{paths[1]}:{number}")
