"""A uniform draw without duplicates from a stream of any length, in the memory of what is drawn.

Each text has a number by the SHA-256 of seed and text; the smallest ``size`` numbers stay (bottom-k sampling,
Cohen & Kaplan 2007). The draw does not depend on the order of the stream, duplicates have one number, and a
smaller draw of the same seed is the beginning of a larger one.
"""

from __future__ import annotations

import hashlib
from heapq import heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")


class Draw(Generic[T]):
    """The texts of smallest number so far, each with a value."""

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._salt = f"{seed}\n".encode()
        self._heap: list[int] = []  # negated, so that the largest number comes out first
        self._values: dict[int, T] = {}

    def number(self, text: str) -> int:
        """Return a text's number, in [0, 2**128)."""
        return int.from_bytes(hashlib.sha256(self._salt + text.encode()).digest()[:16])

    def wants(self, number: int) -> bool:
        """Say whether a text of this number would stay, were it not there yet."""
        return len(self._heap) < self._size or number <= -self._heap[0]

    def __contains__(self, number: int) -> bool:
        return number in self._values

    def add(self, number: int, value: T) -> bool:
        """Add a text that is wanted and not there; return whether another one falls out for it."""
        heappush(self._heap, -number)
        self._values[number] = value
        if len(self._heap) <= self._size:
            return False
        del self._values[-heappop(self._heap)]
        return True

    def drawn(self) -> list[T]:
        """Return the values by rising number: any beginning of them is itself a uniform draw."""
        return [self._values[number] for number in sorted(self._values)]
