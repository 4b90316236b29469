"""What the formats without text share: no prompts, no options, and reading a list of tags that may be anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from fewtable.corpus import EntityType, Scheme, Sentence, tags_to_entities
from fewtable.formats.base import Dropped, Example, Format, Parsed
from fewtable.literals import show
from fewtable.specs import Spec

ReadTag = Callable[[str, str], tuple[str, str | None]]
"""(tag, tag before it as read) -> (tag to keep, why it is not the one given)."""


class Options(Spec):
    """Formats without text have no options."""


class Wordwise(Format):
    """A format whose methods read words and show no text of a type to a model."""

    Options: ClassVar[type[Spec]] = Options
    uses: ClassVar[frozenset[str]] = frozenset()
    parsing: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, types: Sequence[EntityType], options: Spec) -> None:
        self._types = frozenset(t.name for t in types)

    def render(self, sentence: Sentence) -> Sequence[Example]:
        """Return no queries: the method reads the words."""
        return ()


def read_tags(words: Sequence[str], output: Any, read: ReadTag, scheme: Scheme) -> Parsed:
    """Read one tag a word; words without a tag are O, tags without a word are surplus."""
    if not isinstance(output, list | tuple):
        return Parsed((), (Dropped("unparsed", show(output)),))
    dropped: list[Dropped] = []
    tags: list[str] = []
    for given in output[: len(words)]:
        is_text = isinstance(given, str)
        tag, cause = read(given, tags[-1] if tags else "O") if is_text else ("O", "unparsed")
        if cause:
            dropped.append(Dropped(cause, given if is_text else show(given)))
        tags.append(tag)
    dropped += [Dropped("surplus", show(given)) for given in output[len(words) :]]
    if missing := len(words) - len(tags):
        dropped.append(Dropped("unparsed", f"{missing} words without a tag"))
        tags += ["O"] * missing
    return Parsed(tags_to_entities(tags, scheme), tuple(dropped))
