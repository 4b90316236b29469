"""A teacher's answer -> (entity, type) pairs: Python literals as asked for, and near-JSON that can be mended.

methods/12-universalner-data.md, pipeline step 3: the first balanced bracket is read as a Python literal. What the
paper's authors would have thrown away is mended where nothing has to be guessed, and counted by how.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from fewtable.literals import FAULTS, Bracket, bracket, literal

Repair = Literal["surrounded", "truncated", "shape", "near-json"]
"""Text around the list (a code fence, a sentence); a list that was cut; dicts or bare tuples in place of a list of
pairs; quotes, commas and escapes that no parser takes."""
Pair = tuple[str, str]


@dataclass(frozen=True)
class Parsed:
    """The pairs of an answer; ``pairs`` is None when it could not be read."""

    pairs: tuple[Pair, ...] | None
    repairs: tuple[Repair, ...] = ()
    malformed: int = 0
    """Items of the list that are not two strings."""


def parse(answer: str) -> Parsed:
    """Return the pairs that an answer lists, in its order."""
    text = answer.strip()
    repairs: list[Repair] = []
    found = _span(text)
    if found is None:
        return Parsed(None)
    start, end, whole = found
    if whole and text != text[start:end]:
        listed = _listed(text)  # bare tuples: ("a", "b"), ("c", "d")
        if listed is None:
            repairs.append("surrounded")
            text = text[start:end]
    elif not whole:
        text = text[start:end] + {"[": "]", "{": "}"}[text[start]]
        repairs.append("truncated")
    value = literal(text)
    if value is None:
        value = _near_json(text)
        repairs.append("near-json")
    pairs, malformed, bent = _pairs(value)
    if bent:
        repairs.append("shape")
    if pairs is None or (malformed and not pairs):
        return Parsed(None)
    return Parsed(tuple(pairs), tuple(repairs), malformed)


def _span(text: str) -> Bracket | None:
    """Find the first bracket, or bare tuples that are the whole text; None without any, or when no item is whole."""
    found = bracket(text)
    bare = text.find("(")
    if (found is None or 0 <= bare < found.start) and _listed(text) is not None:
        return Bracket(0, len(text), True)
    return found if found and found.end > found.start else None


def _listed(text: str) -> tuple[Any, ...] | None:
    value = literal(text) if text.startswith("(") else None
    return value if isinstance(value, tuple) else None


def _near_json(text: str) -> Any:
    import json_repair

    try:
        return json_repair.loads(text)
    except FAULTS:
        return None


def _pairs(value: Any) -> tuple[list[Pair] | None, int, bool]:
    """Return the pairs of a literal, how many items are none, and whether it was bent from another shape."""
    bent = False
    if isinstance(value, dict):  # {"entities": [(...), ...]}; one whose values are all empty lists none
        inner = [part for part in value.values() if isinstance(part, list) and part and not isinstance(part[0], str)]
        value, bent = (inner[0] if len(inner) == 1 else [value] if any(value.values()) else []), True
    if isinstance(value, tuple):
        value, bent = list(value), True
        if len(value) == 2 and all(isinstance(part, str) for part in value):
            value = [tuple(value)]
    if not isinstance(value, list):
        return None, 0, bent
    pairs: list[Pair] = []
    malformed = 0
    for item in value:
        if isinstance(item, tuple | list) and len(item) == 2 and all(isinstance(part, str) for part in item):
            pairs.append((item[0], item[1]))
        elif isinstance(item, dict) and (found := list(_of_dict(item))):
            pairs.extend(found)
            bent = True
        else:
            malformed += 1
    return pairs, malformed, bent


def _of_dict(item: dict[Any, Any]) -> Iterator[Pair]:
    """Read {"entity": e, "type": t}, {e: t} and {"type": [e, ...]}."""
    names = [key for key in item if isinstance(key, str) and key.lower() in ("entity", "name", "text", "mention")]
    types = [
        key for key in item if isinstance(key, str) and key.lower() in ("type", "entity_type", "label", "definition")
    ]
    if names and types:
        if isinstance(item[names[0]], str) and isinstance(item[types[0]], str):
            yield item[names[0]], item[types[0]]
        return
    for key, value in item.items():
        if not isinstance(key, str):
            continue
        if isinstance(value, str):
            yield key, value
        elif isinstance(value, list):
            yield from ((part, key) for part in value if isinstance(part, str))
