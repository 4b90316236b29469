"""One token a line in columns, sentences parted by blank lines: CoNLL in all its variants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from fewtable.corpus import Scheme
from fewtable.data.readers import base
from fewtable.data.readers.base import RawSentence
from fewtable.errors import DataError
from fewtable.specs import Spec

_SEPARATORS = {"tab": "\t", "space": " ", "any": None}
_DOCSTARTS = ("-DOCSTART-", "--DOCSTART--")
_BLANKS = {"empty": "", "tab": "\t", "space": " "}


class Options(Spec):
    """How the columns are laid out."""

    separator: Literal["tab", "space", "any"] = "tab"
    """What parts columns: one TAB, one space, or any run of white space."""
    token: int = 0
    """Column of the token, from 0; negative counts from the end."""
    tag: int = -1
    """Column of the tag."""
    scheme: Scheme = "iob2"
    docstart: bool = False
    """Lines that begin with -DOCSTART- or --DOCSTART-- are dropped; they end a sentence."""
    token_prefix: str | None = None
    """A text that every token starts with and that is taken off."""
    blank: Literal["empty", "tab", "space"] = "empty"
    """What parts sentences: empty lines, or also lines of TABs, or also lines of spaces."""


def read(paths: Sequence[Path], options: Options) -> Iterator[RawSentence]:
    """Yield the sentences of the files in order.

    Every line of a file must have as many columns as its first one. A token may be empty or invisible.

    Raises:
        DataError: a line has another number of columns, an unknown tag or no ``token_prefix``.
    """
    for path in paths:
        yield from _read_file(path, options)


def _read_file(path: Path, options: Options) -> Iterator[RawSentence]:
    words: list[str] = []
    tags: list[str] = []
    columns = first = 0
    separator, blank, prefix = _SEPARATORS[options.separator], _BLANKS[options.blank], options.token_prefix
    known: set[str] = set()
    for number, text in base.lines(path):
        cells = [] if not text.strip(blank) else text.split(separator)
        if not cells or (options.docstart and cells[0].startswith(_DOCSTARTS)):
            if words:
                yield base.tagged(words, tags, options.scheme, f"{path}:{first}", step=1)
                words, tags = [], []
            continue
        columns = columns or _check_indices(len(cells), options, f"{path}:{number}")
        if len(cells) != columns:
            raise DataError(
                f"{len(cells)} columns, but the lines before have {columns}",
                where=f"{path}:{number}",
                fix=f"columns are parted by '{options.separator}'; the option 'separator' names another",
            )
        tag = cells[options.tag]
        if tag not in known:
            base.check_tag(tag, options.scheme, f"{path}:{number}")
            known.add(tag)
        first = first if words else number
        token = cells[options.token]
        words.append(token if prefix is None else _without(prefix, token, f"{path}:{number}"))
        tags.append(tag)
    if words:
        yield base.tagged(words, tags, options.scheme, f"{path}:{first}", step=1)


def _check_indices(count: int, options: Options, where: str) -> int:
    for key, index in (("token", options.token), ("tag", options.tag)):
        if not -count <= index < count:
            raise DataError(
                f"the line has {count} columns, but the option '{key}' names column {index}",
                where=where,
                fix=f"mend '{key}' or 'separator' in the dataset's options",
            )
    if options.token % count == options.tag % count:
        raise DataError(
            "token and tag are the same column: the line has no second one",
            where=where,
            fix="each line is a token and its tag; mend the line or the option 'separator'",
        )
    return count


def _without(prefix: str, token: str, where: str) -> str:
    if not token.startswith(prefix):
        raise DataError(
            f"the token '{token}' does not start with '{prefix}'",
            where=where,
            fix="mend the line, or take 'token_prefix' out of the dataset's options",
        )
    return token[len(prefix) :]
