"""Hou et al. (2020) episode files: ``ner_test_1.json`` (1 shot) and ``ner-test-1-shot-5.json``, BIO tags.

A file is {domain: [episode, ...]}; training files hold two domains. The tokens count, not the old word pieces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewtable.data.readers import base
from fewtable.data.readers.base import Episode, RawSentence
from fewtable.errors import DataError
from fewtable.specs import Spec

_NAME = re.compile(r"(?:^|[_-])(?:train|valid|test)[_-]\d+(?:-shot-(\d+))?\.json$")


class Options(Spec):
    """How domains are told apart."""

    mixed: bool = False
    """Types are named DOMAIN/TYPE, for files of several domains whose types may share names or words."""


def read(paths: Sequence[Path], options: Options) -> Iterator[RawSentence]:
    """Yield each sentence of the episodes once, in the order of first appearance."""
    return base.distinct(episodes(paths, options))


def episodes(paths: Sequence[Path], options: Options) -> Iterator[Episode]:
    """Yield the episodes, domain by domain in the file's order.

    An episode's types are all types of its domain in that file, sorted: a query may hold types that the
    support lacks. Queries stand under ``batch`` (old release) or ``query``.

    Raises:
        DataError: the file or an episode is malformed.
    """
    for path in paths:
        name = _NAME.search(path.name)
        k = int(name[1] or 1) if name else None
        for domain, rows in _load(path).items():
            found = []
            for index, row in enumerate(rows):
                where = f"{path}:{domain}[{index}]"
                query = "query" if isinstance(row, dict) and "query" in row else "batch"
                found.append(tuple(_part(row, name, where, domain, options) for name in ("support", query)))
            types = sorted({e.type for parts in found for part in parts for s in part for e in s.entities})
            for index, (support, query_part) in enumerate(found):
                origin: dict[str, str | int] = {"file": path.name, "domain": domain, "index": index}
                yield Episode(tuple(types), support, query_part, k, None, origin)


def _load(path: Path) -> dict[str, list[Any]]:
    text = "\n".join(line for _, line in base.lines(path))
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"not JSON: {error.msg}", where=f"{path}:{error.lineno}", fix="fetch it again") from None
    if not isinstance(value, dict) or not all(isinstance(rows, list) for rows in value.values()):
        raise DataError("not {domain: [episode, ...]}", where=str(path), fix="take the files of xval_ner*")
    return value


def _part(row: Any, name: str, where: str, domain: str, options: Options) -> tuple[RawSentence, ...]:
    """Return a part's sentences; their source is the domain, for training files mix two."""
    value = base.field(row, name, dict, where)
    words, tags = (base.field(value, key, list, where) for key in ("seq_ins", "seq_outs"))
    if len(words) != len(tags):
        raise DataError(
            f"{name}: {len(words)} sentences but {len(tags)} rows of tags", where=where, fix="fetch it again"
        )
    read = (
        base.tagged(base.words_of(w, where), base.words_of(t, where), "iob2", where)
        for w, t in zip(words, tags, strict=True)
    )
    prefix = f"{domain}/" if options.mixed else ""
    return tuple(
        replace(s, source=domain, entities=tuple(e._replace(type=prefix + e.type) for e in s.entities)) for s in read
    )
