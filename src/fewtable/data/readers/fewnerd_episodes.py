"""Official Few-NERD episode files ``SPLIT_N_K.jsonl`` (thunlp/Few-NERD, episode-data), IO tags."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fewtable.data.readers import base
from fewtable.data.readers.base import Episode, RawSentence
from fewtable.errors import DataError
from fewtable.specs import Spec

_NAME = re.compile(r"_(\d+)_(\d+)\.jsonl$")


class Options(Spec):
    """None."""


def read(paths: Sequence[Path], options: Options) -> Iterator[RawSentence]:
    """Yield each sentence of the episodes once, in the order of first appearance."""
    return base.distinct(episodes(paths, options))


def episodes(paths: Sequence[Path], options: Options) -> Iterator[Episode]:
    """Yield the episodes of the files in order; N and K are read from a name such as ``test_5_1.jsonl``.

    Raises:
        DataError: a line is malformed, has not N types, or a tag that is none of its types.
    """
    for path in paths:
        name = _NAME.search(path.name)
        for number, row in base.json_lines(path):
            where = f"{path}:{number}"
            types = base.words_of(base.field(row, "types", list, where), where)
            if name and len(types) != int(name[1]):
                raise DataError(
                    f"{len(types)} types, but the file's name says {name[1]}-way",
                    where=where,
                    fix="fetch the file again",
                )
            yield Episode(
                types,
                _part(row, "support", types, where),
                _part(row, "query", types, where),
                int(name[2]) if name else None,
                2 * int(name[2]) if name else None,
                {"file": path.name, "line": number},
            )


def _part(row: object, part: str, types: tuple[str, ...], where: str) -> tuple[RawSentence, ...]:
    value = base.field(row, part, dict, where)
    words, labels = (base.field(value, key, list, where) for key in ("word", "label"))
    if len(words) != len(labels):
        raise DataError(
            f"{part}: {len(words)} sentences but {len(labels)} rows of labels", where=where, fix="fetch it again"
        )
    out = []
    for tokens, tags in zip(words, labels, strict=True):
        sentence = base.tagged(base.words_of(tokens, where), base.words_of(tags, where), "io", where)
        for entity in sentence.entities:
            if entity.type not in types:
                raise DataError(
                    f"{part}: the tag '{entity.type}' is none of the episode's types",
                    where=where,
                    fix=f"the types are {', '.join(types)}",
                )
        out.append(sentence)
    return tuple(out)
