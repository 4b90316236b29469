"""The header of a sample: one form for drawn and for official ones, for the table's line, the report and tracking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def sample_header(
    rule: str,
    shots: Mapping[str, int],
    seed: int | None,
    *,
    counts: Mapping[str, int],
    target: Mapping[str, int],
    most: Mapping[str, int],
    sentences: int,
    duplicates: int,
) -> dict[str, Any]:
    """Return a sample's header.

    Args:
        rule: the sampling rule.
        shots: k, n_way and q, as far as the rule has them.
        seed: of the draw; None where somebody else drew.
        counts: type (or tag) -> what the support reached, in mentions unless the rule notes another ``unit``.
        target: type -> what the rule aims at; below it a type is ``short`` by the difference.
        most: type -> what is still no excess; above it a type is ``over`` by the difference.
        sentences: support sentences.
        duplicates: how many of them repeat the words of another.
    """
    return {
        "rule": rule,
        **shots,
        "seed": seed,
        "unit": "mentions",
        "counts": dict(counts),
        "target": dict(target),
        "short": {name: target[name] - n for name, n in counts.items() if n < target.get(name, n)},
        "over": {name: n - most[name] for name, n in counts.items() if n > most.get(name, n)},
        "sentences": sentences,
        "duplicates": duplicates,
    }
