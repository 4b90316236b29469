"""Pairs of a teacher -> entities of a passage: what is filtered, in which order, counted by cause.

methods/12-universalner-data.md, pipeline step 4 (UniversalNER section 3.1, "Data statistics").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from fewtable.corpus import Entity, Sentence, split_words
from fewtable.literals import written
from fewtable.teachers.parse import Pair

BLACKLIST = frozenset({"else", "none", "na", "n/a", "misc", "miscellaneous", "other", "others", "unknown", "entity"})
"""Types that say nothing, lower-cased."""
CAUSES = ("empty", "blacklisted", "non-english", "not-in-passage", "not-at-word-boundaries", "duplicate")
"""Why an entity is left out, in the order in which it is asked."""


def is_english(text: str) -> bool:
    """Say whether at most half of the letters lie outside Basic Latin and Latin-1."""
    letters = [char for char in text if char.isalpha()]
    return 2 * sum(char > "\xff" for char in letters) <= len(letters)


def annotate(identity: str, text: str, pairs: Iterable[Pair], dropped: Counter[str]) -> Sentence:
    """Return a passage with the entities that the filters leave.

    Args:
        identity: the sentence's id.
        text: the passage.
        pairs: (surface, type) as the teacher wrote them.
        dropped: counts by cause (``CAUSES``), added to.

    Returns:
        The passage's words; an entity is the first mention, at word boundaries, of a distinct (surface, type), its
        type lower-cased with single spaces and without a final dot, which a definition has (methods/12, variants).
    """
    words, glued = split_words(text)
    sentence = Sentence(identity, words, (), glued)
    folded = " ".join(text.split()).casefold()
    found: set[Entity] = set()
    for surface, kind in pairs:
        name = " ".join(written(kind).split()).lower().removesuffix(".").rstrip()
        wanted = " ".join(written(surface).split())
        if not name or not wanted:
            cause = "empty"
        elif name in BLACKLIST:
            cause = "blacklisted"
        elif not (is_english(wanted) and is_english(name)):
            cause = "non-english"
        elif (span := first_mention(sentence, wanted)) is None:
            cause = "not-at-word-boundaries" if wanted.casefold() in folded else "not-in-passage"
        elif (entity := Entity(*span, name)) in found:
            cause = "duplicate"
        else:
            found.add(entity)
            continue
        dropped[cause] += 1
    return Sentence(identity, words, tuple(sorted(found)), glued)


def first_mention(sentence: Sentence, surface: str) -> tuple[int, int] | None:
    """Return the first span of words that spells ``surface``, in the same case if there is one, else in any."""
    words, glued = split_words(surface)
    if not words:
        return None
    inside = set(sentence.glued)
    exact = _find(sentence.words, inside, words, set(glued))
    if exact is None:
        lowered = tuple(word.casefold() for word in sentence.words)
        exact = _find(lowered, inside, tuple(word.casefold() for word in words), set(glued))
    return exact


def _find(
    haystack: Sequence[str], haystack_glued: set[int], words: tuple[str, ...], glued: set[int]
) -> tuple[int, int] | None:
    size = len(words)
    for start in range(len(haystack) - size + 1):
        if haystack[start] != words[0] or tuple(haystack[start : start + size]) != words:
            continue
        if all((start + i in haystack_glued) == (i in glued) for i in range(1, size)):
            return start, start + size
    return None
