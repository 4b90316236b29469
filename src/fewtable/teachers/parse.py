"""A teacher's answer -> (entity, type) pairs: Python literals as asked for, and near-JSON that can be mended.

methods/12-universalner-data.md, pipeline step 3: the first balanced bracket is read as a Python literal. What the
paper's authors would have thrown away is mended where nothing has to be guessed, and counted by how.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

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
    value = _literal(text)
    if value is None:
        value = _near_json(text)
        repairs.append("near-json")
    pairs, malformed, bent = _pairs(value)
    if bent:
        repairs.append("shape")
    if pairs is None or (malformed and not pairs):
        return Parsed(None)
    return Parsed(tuple(pairs), tuple(repairs), malformed)


def _span(text: str) -> tuple[int, int, bool] | None:
    """Find the first bracket: (start, end, whether it is balanced); of a cut one, up to its last whole item."""
    start = min((i for i in (text.find("["), text.find("{")) if i >= 0), default=-1)
    bare = text.find("(")
    if start < 0 or (0 <= bare < start and _listed(text) is not None):
        return (0, len(text), True) if _listed(text) is not None else None
    depth, quote, last = 0, "", -1
    position = start
    while position < len(text):
        char = text[position]
        if quote:
            if char == "\\":
                position += 1
            elif char == quote and _closes(text, position):
                quote = ""
        elif char in "\"'" and _opens(text, position):
            quote = char
        elif char in "[({":
            depth += 1
        elif char in "])}":
            depth -= 1
            if depth == 0:
                return start, position + 1, True
            if depth == 1:
                last = position + 1
        position += 1
    return (start, last, False) if last > 0 else None


def _opens(text: str, position: int) -> bool:
    """Tell a quote that opens a string from an apostrophe: only brackets, separators and space stand before it."""
    before = text[:position].rstrip()[-1:]
    return before in ("", "[", "(", "{", ",", ":")


def _closes(text: str, position: int) -> bool:
    """Tell a quote that closes a string from one inside it: a bracket or a separator follows."""
    after = text[position + 1 : position + 40].lstrip()[:1]
    return after in ("", "]", ")", "}", ",", ":")


def _listed(text: str) -> tuple[Any, ...] | None:
    value = _literal(text) if text.startswith("(") else None
    return value if isinstance(value, tuple) else None


def _literal(text: str) -> Any:
    """Return a Python literal, or None. Nothing is evaluated."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown escape in a string, which Python only warns of
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _near_json(text: str) -> Any:
    import json_repair

    try:
        return json_repair.loads(text)
    except (ValueError, RecursionError):
        return None


def _pairs(value: Any) -> tuple[list[Pair] | None, int, bool]:
    """Return the pairs of a literal, how many items are none, and whether it was bent from another shape."""
    bent = False
    if isinstance(value, dict):
        inner = [part for part in value.values() if isinstance(part, list) and part and not isinstance(part[0], str)]
        value, bent = (inner[0] if len(inner) == 1 else [value]), True  # {"entities": [(...), ...]}
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
