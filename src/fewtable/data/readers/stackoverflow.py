"""StackOverflow NER (Tabassum et al. 2020): four columns, sentences parted by a line holding one TAB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fewtable.data.readers import columns
from fewtable.data.readers.base import RawSentence
from fewtable.specs import Spec

PSEUDO = ("Question_ID", "Question_URL", "Answer_to_Question_ID", "CODE_BLOCK", "OP_BLOCK")
"""First words of the groups that are no sentences: where a post comes from, stand-ins for omitted code and output."""


class Options(Spec):
    """Which groups are sentences."""

    pseudo: bool = False
    """Keep the groups that are no sentences (PSEUDO)."""


def read(paths: Sequence[Path], options: Options) -> Iterator[RawSentence]:
    """Yield the sentences; groups ``WORD : ...`` of PSEUDO are left out unless ``pseudo``.

    Raises:
        DataError: as the ``columns`` reader.
    """
    layout = columns.Options(separator="tab", token=0, tag=1, blank="tab")
    for sentence in columns.read(paths, layout):
        if options.pseudo or not is_pseudo(sentence.words):
            yield sentence


def is_pseudo(words: Sequence[str]) -> bool:
    """Say whether a group is one of PSEUDO, not a sentence."""
    return len(words) > 1 and words[0] in PSEUDO and words[1] == ":"
