"""Brackets in what a model wrote, read as JSON or as Python literals without ever failing."""

from __future__ import annotations

import ast
import json
import warnings
from typing import Any, NamedTuple

from fewtable.files import dumps

FAULTS = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError)


class Bracket(NamedTuple):
    """Where the first bracket of a text stands."""

    start: int
    end: int
    """After the bracket that closes it; of one that never closes, after its last whole bracketed item."""
    whole: bool


def json_list(answer: Any) -> list[Any] | None:
    """Return the first list in an answer, else None (methods/11: balanced bracket, JSON, then a Python literal)."""
    found = _first(answer, "[")
    return found if isinstance(found, list) else None


def json_object(answer: Any) -> dict[str, Any] | None:
    """Return the first object in an answer, else None; keys as strings."""
    found = _first(answer, "{")
    if not isinstance(found, dict):
        return None
    return {key if isinstance(key, str) else show(key): value for key, value in found.items()}


def show(value: Any) -> str:
    """Return a JSON value as text, and what is no JSON as its ``repr``, or by its class where even that fails."""
    for form in (dumps, repr):
        try:
            return form(value)
        except FAULTS:
            continue
    return f"<{type(value).__name__}>"


def written(text: str) -> str:
    """Return a text that a file can hold: an escape in an answer can name half of a surrogate pair.

    Two halves that follow each other become their character, a single one U+FFFD.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def literal(text: str) -> Any:
    """Return the value of a Python literal, or None. Nothing is evaluated."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown escape in a string, which Python only warns of
            return ast.literal_eval(text)
    except FAULTS:
        return None


def bracket(text: str, opening: str = "[{") -> Bracket | None:
    """Find the first bracket of the kinds ``opening``, None without one; brackets inside strings do not count."""
    start = min((i for i in map(text.find, opening) if i >= 0), default=-1)
    if start < 0:
        return None
    depth, quote, last = 0, "", start
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
                return Bracket(start, position + 1, True)
            if depth == 1:
                last = position + 1
        position += 1
    return Bracket(start, last, False)


def _first(answer: Any, opening: str) -> Any:
    if not isinstance(answer, str) or (start := answer.find(opening)) < 0:
        return None
    try:
        return json.JSONDecoder().raw_decode(answer, start)[0]
    except FAULTS:
        pass
    found = bracket(answer, opening)
    return literal(answer[found.start : found.end]) if found and found.whole else None


def _opens(text: str, position: int) -> bool:
    """Tell a quote that opens a string from an apostrophe: only brackets, separators and space stand before it."""
    before = text[max(0, position - 40) : position].rstrip()[-1:]
    return before in ("", "[", "(", "{", ",", ":")


def _closes(text: str, position: int) -> bool:
    """Tell a quote that closes a string from one inside it: a bracket or a separator follows."""
    after = text[position + 1 : position + 40].lstrip()[:1]
    return after in ("", "]", ")", "}", ",", ":")
