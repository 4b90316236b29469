"""Samplers against the reference ways, in one process on the same input: distribution asserted, then timed.

    python benchmarks/samplers.py [--rounds 9] [--mirror ../shared/data]

Reference ways, written anew:

- episodes: Few-NERD's util/fewshotsampler.py (candidate scan over the corpus for every episode, then draws with
  replacement that are mostly rejected);
- greedy: Yang & Katiyar's Algorithm 1 as a plain loop (for every sentence added, scan the corpus for those
  that hold the type).

"draw" is one draw with the index (ours) or the counted mentions (reference) at hand; "block" is what a job does:
index or count the corpus, then make all draws of the block. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from random import Random

from fewtable.corpus import Entity, Scheme, Sentence, sentence_id, tags_to_entities
from fewtable.sampling import draw_all, episodes, greedy
from fewtable.sampling.pool import Pool
from fewtable.specs import DrawSpec, SamplerSpec

MentionCounts = list[dict[str, int]]


# --- the reference ways ---------------------------------------------------------------------------------


def count_mentions(sentences: Sequence[Sentence]) -> MentionCounts:
    return [dict(Counter(e.type for e in s.entities)) for s in sentences]


class FewNerdWay:
    """One N-way k~2k episode at a time, as the released sampler draws it (commit 2357a30 and later)."""

    def __init__(self, counts: MentionCounts, n_way: int, k: int, q: int, rng: Random) -> None:
        self.counts, self.n_way, self.k, self.q, self.rng = counts, n_way, k, q, rng
        self.types = sorted({name for count in counts for name in count})

    def draw(self) -> tuple[list[int], list[int]]:
        """Return the positions of support and query."""
        candidates: list[int] = []
        while not candidates:
            targets = self.rng.sample(self.types, self.n_way)
            candidates = [i for i, count in enumerate(self.counts) if self._usable(count, targets)]
        support = self._fill(candidates, targets, self.k, [])
        return support, self._fill(candidates, targets, self.q, support)

    @staticmethod
    def _usable(count: dict[str, int], targets: list[str]) -> bool:
        return bool(set(count.keys()).intersection(set(targets))) and not set(count.keys()).difference(set(targets))

    def _fill(self, candidates: list[int], targets: list[str], k: int, taken: list[int]) -> list[int]:
        reached: dict[str, int] = {}
        chosen: list[int] = []
        while len(reached) < self.n_way or any(n < k for n in reached.values()):
            index = self.rng.choice(candidates)
            if index in chosen or index in taken:
                continue
            count = self.counts[index]
            if any(name not in targets or n + reached.get(name, 0) > 2 * k for name, n in count.items()):
                continue
            if any(reached.get(name, 0) < k for name in count):
                for name, n in count.items():
                    reached[name] = reached.get(name, 0) + n
                chosen.append(index)
        return chosen


def greedy_way(counts: MentionCounts, k: int, rng: Random) -> list[int]:
    """Algorithm 1 with a scan of the corpus for every sentence added."""
    totals = Counter[str]()
    for count in counts:
        totals.update(count)
    reached = Counter[str]()
    chosen: list[int] = []
    taken: set[int] = set()
    for name in sorted(totals, key=lambda t: (totals[t], t)):
        while reached[name] < min(k, totals[name]):
            index = rng.choice([i for i, count in enumerate(counts) if name in count and i not in taken])
            chosen.append(index)
            taken.add(index)
            reached.update(counts[index])
    return chosen


# --- input ----------------------------------------------------------------------------------------------


def read_columns(path: Path, scheme: Scheme) -> list[Sentence]:
    found: list[Sentence] = []
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        rows = [line.split("\t") for line in block.splitlines() if "\t" in line]
        if rows:
            entities = tags_to_entities([row[-1] for row in rows], scheme)
            found.append(Sentence(sentence_id("test", len(found)), tuple(row[0] for row in rows), entities))
    return found


def synthetic(size: int, types: int, seed: int = 0) -> list[Sentence]:
    """Skewed types, 88 % of the sentences with one type: the shape of Few-NERD's INTER test split."""
    rng = Random(seed)
    names = [f"t{i:02d}" for i in range(types)]
    found = []
    for index in range(size):
        kinds = rng.choices(names, [1 / (i + 1) for i in range(types)], k=1 if rng.random() < 0.88 else 2)
        spans = [Entity(2 * i, 2 * i + 1, kind) for i, kind in enumerate(kinds * rng.choice((1, 1, 2)))]
        found.append(Sentence(sentence_id("test", index), ("w",) * 2 * len(spans), tuple(spans)))
    return found


def load(mirror: Path | None, name: str, scheme: Scheme, types: int) -> tuple[str, list[Sentence]]:
    path = mirror / name if mirror else None
    if path and path.exists():
        return name, read_columns(path, scheme)
    return f"synthetic, {types} types", synthetic(14_000, types)


# --- correctness ----------------------------------------------------------------------------------------


def assert_same_distribution(name: str, ours: Iterable[Hashable], theirs: Iterable[Hashable]) -> None:
    """Two-sample chi-square over outcomes seen at least ten times; fails five deviations above its mean."""
    a, b = Counter(ours), Counter(theirs)
    common = [key for key in a | b if a[key] + b[key] >= 10]
    statistic = sum((a[key] - b[key]) ** 2 / (a[key] + b[key]) for key in common)
    freedom = len(common) - 1
    assert freedom > 5, f"{name}: the toy corpus has too few outcomes to compare"
    limit = freedom + 5 * math.sqrt(2 * freedom)
    assert statistic < limit, (
        f"{name}: other distribution than the reference (chi-square {statistic:.0f} > {limit:.0f})"
    )


def check(draws: int = 6000) -> None:
    """Compare the distribution of whole draws on a toy corpus that has few of them."""
    # Two plain sentences a type leave a way out of every state; without one the reference never ends.
    rows = [{"a": 1}, {"b": 1}, {"c": 1}] * 2 + [{"a": 2}, {"a": 1, "b": 1}, {"c": 1, "a": 1}, {"b": 1, "c": 2}]
    sentences = []
    for index, row in enumerate(rows):
        kinds = [kind for kind, n in row.items() for _ in range(n)]
        spans = tuple(Entity(i, i + 1, kind) for i, kind in enumerate(kinds))
        sentences.append(Sentence(sentence_id("test", index), tuple(kinds), spans))
    counts, pool = count_mentions(sentences), Pool(sentences, "abc")
    reference = FewNerdWay(counts, 2, 1, 1, Random(1))
    drawer = episodes.prepare(pool, SamplerSpec(rule="episodes", n_way=2, k=1, q=1))
    assert_same_distribution(
        "episodes",
        ((tuple(c.support), tuple(c.query or ())) for c in (drawer(Random(i)) for i in range(draws))),
        ((tuple(sorted(s)), tuple(sorted(q))) for s, q in (reference.draw() for _ in range(draws))),
    )
    shots = greedy.prepare(pool, SamplerSpec(rule="greedy", k=2))
    rng = Random(2)
    assert_same_distribution(
        "greedy",
        (tuple(sorted(shots(Random(i)).support)) for i in range(draws)),
        (tuple(sorted(greedy_way(counts, 2, rng))) for _ in range(draws)),
    )


# --- timing ---------------------------------------------------------------------------------------------


def compare(rounds: int, ours: Callable[[], object], theirs: Callable[[], object], draws: int) -> dict[str, float]:
    """Time both, interleaved; milliseconds a draw."""
    ours(), theirs()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for call, seconds in zip((ours, theirs), times, strict=True):
            started = time.perf_counter()
            call()
            seconds.append((time.perf_counter() - started) / draws * 1000)
    fast, slow = times
    return {
        "ours_min_ms": round(min(fast), 4),
        "ours_median_ms": round(statistics.median(fast), 4),
        "reference_min_ms": round(min(slow), 4),
        "reference_median_ms": round(statistics.median(slow), 4),
        "ratio_min": round(min(slow) / min(fast), 1),
        "ratio_median": round(statistics.median(slow) / statistics.median(fast), 1),
    }


def bench_episodes(sentences: list[Sentence], rounds: int, shots: tuple[int, int, int]) -> dict[str, object]:
    n_way, k, q = shots
    draws = 50
    types = sorted({e.type for s in sentences for e in s.entities})
    sampler = SamplerSpec(rule="episodes", n_way=n_way, k=k, q=q)
    drawer = episodes.prepare(Pool(sentences, types), sampler)
    reference = FewNerdWay(count_mentions(sentences), n_way, k, q, Random(1))
    spec = DrawSpec(sampler=sampler, support="test")

    def ours_block() -> object:
        return draw_all(spec, "bench", types, sentences, [], range(draws))

    def reference_block() -> object:
        way = FewNerdWay(count_mentions(sentences), n_way, k, q, Random(1))
        return [way.draw() for _ in range(draws)]

    return {
        "draw": compare(
            rounds,
            lambda: [drawer(Random(i)) for i in range(draws)],
            lambda: [reference.draw() for _ in range(draws)],
            draws,
        ),
        "block": compare(rounds, ours_block, reference_block, draws),
    }


def bench_greedy(sentences: list[Sentence], rounds: int, k: int) -> dict[str, object]:
    draws = 3
    types = sorted({e.type for s in sentences for e in s.entities})
    sampler = SamplerSpec(rule="greedy", k=k)
    drawer = greedy.prepare(Pool(sentences, types), sampler)
    counts = count_mentions(sentences)
    spec = DrawSpec(sampler=sampler)

    def ours_block() -> object:
        return draw_all(spec, "bench", types, sentences, [], range(draws))

    def reference_block() -> object:
        fresh, rng = count_mentions(sentences), Random(1)
        return [greedy_way(fresh, k, rng) for _ in range(draws)]

    return {
        "draw": compare(
            rounds,
            lambda: [drawer(Random(i)) for i in range(draws)],
            lambda: [greedy_way(counts, k, Random(i)) for i in range(draws)],
            draws,
        ),
        "block": compare(rounds, ours_block, reference_block, draws),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved repetitions, at least 7")
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--mirror", type=Path, default=default, help="folder of raw corpora; else synthetic input")
    args = parser.parse_args()
    check()
    few_nerd_name, few_nerd = load(args.mirror, "fewnerd_inter/test.txt", "io", 17)
    conll_name, conll = load(args.mirror, "conll2003/train.txt", "iob2", 4)
    rounds = max(7, args.rounds)
    result = {
        "distribution": "equal to the reference's (chi-square on a toy corpus, 6,000 draws each)",
        "python": sys.version.split()[0],
        "rounds": rounds,
        f"episodes 5-way 1-shot, {few_nerd_name}": bench_episodes(few_nerd, rounds, (5, 1, 1)),
        f"episodes 10-way 5-shot, {few_nerd_name}": bench_episodes(few_nerd, rounds, (10, 5, 1)),
        f"greedy 10-shot, {conll_name}": bench_greedy(conll, rounds, 10),
        f"greedy 50-shot, {conll_name}": bench_greedy(conll, rounds, 50),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
