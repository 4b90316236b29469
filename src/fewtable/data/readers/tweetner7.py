"""TweetNER7: JSON lines with tag ids, and a JSON file that maps tags to ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fewtable.corpus import Scheme
from fewtable.data.readers import base
from fewtable.data.readers.base import RawSentence
from fewtable.errors import DataError
from fewtable.files import read_json
from fewtable.specs import Spec


class Options(Spec):
    """Names of the keys. The last file of a split is the label map {tag: id}."""

    tokens: str = "tokens"
    tags: str = "tags"
    scheme: Scheme = "iob2"


def read(paths: Sequence[Path], options: Options) -> Iterator[RawSentence]:
    """Yield the sentences of all files but the last, which is the label map.

    Raises:
        DataError: the label map or a line is malformed, or a tag id is not in the map.
    """
    if len(paths) < 2:
        raise base.wrong_files(paths, 2, "sentences, then the label map")
    names = _label_map(paths[-1])
    for path in paths[:-1]:
        for number, row in base.json_lines(path):
            where = f"{path}:{number}"
            words = base.words_of(base.field(row, options.tokens, list, where), where)
            ids = base.field(row, options.tags, list, where)
            if unknown := [i for i in ids if not isinstance(i, int) or i not in names]:
                raise DataError(
                    f"unknown tag id {unknown[0]!r}",
                    where=where,
                    fix=f"{paths[-1].name} has 0 to {len(names) - 1}",
                )
            yield base.tagged(words, [names[i] for i in ids], options.scheme, where)


def _label_map(path: Path) -> dict[int, str]:
    value = read_json(path)
    if not isinstance(value, dict) or not all(isinstance(i, int) for i in value.values()):
        raise DataError(
            "not a label map", where=str(path), fix='the last file of the split must be {"B-person": 0, ...}'
        )
    return {i: tag for tag, i in value.items()}
