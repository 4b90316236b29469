"""Types that a sentence has none of, drawn to be asked about in training."""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from random import Random
from typing import Literal

from fewtable.corpus import Sentence
from fewtable.files import stable_seed
from fewtable.formats._types import of_source


class Negatives:
    """Draws types that a sentence has none of. Of a mixture, a sentence gets types of its own source only.

    Args:
        support: the sentences of a draw.
        names: the types, in the inventory's order.
        seed: decides what is drawn.
        ratio: types drawn for each type that a sentence has; None takes all. A sentence without entities counts as one
            that has as many as the others on average (1 at least).
        drawn: ``uniform``: all types alike; ``seen``: alike, those that the support mentions; ``frequency``: by their
            number of mentions in the support.
    """

    def __init__(
        self,
        support: Sequence[Sentence],
        names: Iterable[str],
        seed: int,
        ratio: float | None,
        drawn: Literal["uniform", "seen", "frequency"],
    ) -> None:
        self.random = Random(stable_seed("negatives", seed))
        self._ratio = ratio
        counts = Counter(entity.type for sentence in support for entity in sentence.entities)
        names = list(names)
        self._types: dict[str, list[str]] = {}
        self._heights: dict[str, list[int]] = {}
        for source in dict.fromkeys(sentence.source for sentence in support):
            known = of_source(names, source)
            if drawn != "uniform":
                known = [name for name in known if counts[name]]
            self._types[source] = known
            self._heights[source] = list(accumulate(counts[n] if drawn == "frequency" else 1 for n in known))
        positive = [len({e.type for e in sentence.entities}) for sentence in support if sentence.entities]
        self._usual = max(1, round(sum(positive) / len(positive))) if positive else 1

    def __call__(self, sentence: Sentence, present: Iterable[str]) -> list[str]:
        """Return the negative types of a sentence that has the ``present`` ones."""
        found = set(present)
        types, heights = self._types[sentence.source], self._heights[sentence.source]
        if self._ratio is None:
            return [name for name in types if name not in found]
        left = len(types) - len(found)
        wanted = min(round(self._ratio * (len(found) or self._usual)), left)
        chosen: list[str] = []
        if 2 * wanted > left:  # drawing until a new one comes would take long
            pool = {n: h - low for n, low, h in zip(types, [0, *heights], heights, strict=False) if n not in found}
            while len(chosen) < wanted:
                chosen += self.random.choices(list(pool), list(pool.values()))
                del pool[chosen[-1]]
        while len(chosen) < wanted:
            drawn = types[bisect(heights, self.random.randrange(heights[-1]))]
            if drawn not in found:
                found.add(drawn)
                chosen.append(drawn)
        return chosen
