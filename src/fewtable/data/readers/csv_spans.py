"""CSV of texts with a JSON list of character spans (TASTEset); texts are split into words here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fewtable.corpus import Entity
from fewtable.data.readers.base import RawSentence
from fewtable.data.readers.csv_labels import csv_rows
from fewtable.errors import DataError
from fewtable.specs import Spec

WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")
"""A word: a run of letters, a run of digits, or one other sign ('400g' is two words)."""


class Options(Spec):
    """Names of the columns and of the span's keys."""

    text: str = "ingredients"
    entities: str = "ingredients_entities"
    start: str = "start"
    end: str = "end"
    type: str = "type"


def read(paths: Sequence[Path], options: Options) -> Iterator[RawSentence]:
    """Yield one sentence a row; line breaks in a text are white space.

    The offsets count; the corpus' copies of the span texts are not looked at (five differ by a quote sign).

    Raises:
        DataError: the spans are no JSON list, or one does not begin and end with a word.
    """
    for path in paths:
        for number, (text, spans) in csv_rows(path, (options.text, options.entities)):
            where = f"{path}:{number}"
            places = [match.span() for match in WORD.finditer(text)]
            starts = {start: i for i, (start, _) in enumerate(places)}
            ends = {end: i + 1 for i, (_, end) in enumerate(places)}
            found = []
            for item in _spans(spans, where):
                start, end, kind = (item.get(key) for key in (options.start, options.end, options.type))
                if start not in starts or end not in ends or not isinstance(kind, str) or start >= end:
                    raise DataError(
                        f"the span {json.dumps(item, ensure_ascii=False)} does not begin and end with a word",
                        where=where,
                        fix="mend its offsets: they count characters of the text, end is exclusive",
                    )
                found.append(Entity(starts[start], ends[end], kind))
            yield RawSentence(tuple(text[s:e] for s, e in places), tuple(sorted(found)), where)


def _spans(text: str, where: str) -> list[dict[str, Any]]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"the spans are not JSON: {error.msg}", where=where, fix="mend the cell") from None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError("the spans are not a list of objects", where=where, fix="mend the cell")
    return value
