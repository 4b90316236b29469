"""JSON in what a model wrote, read without ever failing."""

from __future__ import annotations

import ast
import json
import warnings
from typing import Any

FAULTS = (ValueError, SyntaxError, RecursionError, MemoryError)


def json_list(answer: Any) -> list[Any] | None:
    """Return the first list in an answer, else None (methods/11: balanced bracket, JSON, then a Python literal)."""
    found = _first(answer, "[", "]")
    return found if isinstance(found, list) else None


def json_object(answer: Any) -> dict[str, Any] | None:
    """Return the first object in an answer, else None; keys as strings."""
    found = _first(answer, "{", "}")
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else None


def _first(answer: Any, opening: str, closing: str) -> Any:
    if not isinstance(answer, str) or (start := answer.find(opening)) < 0:
        return None
    try:
        return json.JSONDecoder().raw_decode(answer, start)[0]
    except FAULTS:
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes
            return ast.literal_eval(answer[start : _balanced(answer, start, opening, closing)])
    except FAULTS:
        return None


def _balanced(text: str, start: int, opening: str, closing: str) -> int:
    """Return where the bracket that opens at ``start`` has closed; the end of the text when it never does."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == opening) - (text[place] == closing)
        if depth == 0:
            return place + 1
    return len(text)
