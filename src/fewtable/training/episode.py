"""What an episodic loss is computed on."""

from __future__ import annotations

from dataclasses import dataclass

from fewtable.corpus import Sentence


@dataclass(frozen=True, slots=True)
class Episode:
    """Support and query sentences over some types; no query: each support sentence is asked of the others."""

    types: tuple[str, ...]
    support: tuple[Sentence, ...]
    query: tuple[Sentence, ...] = ()
