"""Entity scorer against seqeval, bootstrap from counts against rescoring: equal results first, then time.

    python benchmarks/scoring.py [--sentences 5000] [--repeats 9] [--output FILE.json]

Made-up tags, 24 words a sentence, 5% of the predicted tags changed. Both sides get the same lists of tags and return
micro F1; runs are interleaved in one process, garbage collection off, and min and median are printed with the spread
(max/min). Rescoring is timed on ten resamples (one for seqeval) and extrapolated to 1,000.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2

from fewtable.corpus import tags_to_entities
from fewtable.files import write_json
from fewtable.scoring.mentions import Frame, Mentions, count, count_rows
from fewtable.scoring.statistics import bootstrap, percentiles
from fewtable.scoring.tags import ChunkRule, tag_mentions
from fewtable.scoring.units import METRICS

KINDS = ("person", "location", "corporation", "creative-work", "group", "product")
Tags = list[list[str]]


def corpus(sentences: int, seed: int = 0) -> tuple[Tags, Tags]:
    """Return gold and predicted tags."""
    rng = random.Random(seed)
    known = ["O", *(f"{letter}-{kind}" for kind in KINDS for letter in "BI")]
    gold, pred = [], []
    for _ in range(sentences):
        tags: list[str] = []
        while len(tags) < 24:
            kind = rng.choice(KINDS)
            entity = [f"B-{kind}", f"I-{kind}", f"I-{kind}"][: rng.randint(1, 3)]
            tags += entity if rng.random() < 0.1 else ["O"]
        gold.append(tags[:24])
        pred.append([rng.choice(known) if rng.random() < 0.05 else tag for tag in tags[:24]])
    return gold, pred


def ours(gold: Tags, pred: Tags, rule: ChunkRule) -> float:
    """Return our micro F1 as a fraction."""
    _, left, right = tag_mentions(gold, pred, rule)
    return count(left, right).f1 / 100


def time_all(sides: dict[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """Time all sides in turn; return min, median and spread in milliseconds."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side()
    gc.disable()
    for _ in range(repeats):
        for name, side in sides.items():
            gc.collect()
            start = time.perf_counter()
            side()
            taken[name].append(1000 * (time.perf_counter() - start))
    gc.enable()
    return {
        name: {"min": min(t), "median": statistics.median(t), "spread": max(t) / min(t)} for name, t in taken.items()
    }


def check(gold: Tags, pred: Tags) -> None:
    """Assert equal results before any timing."""
    assert abs(ours(gold, pred, "seqeval-default") - f1_score(gold, pred)) < 1e-12
    strict = f1_score(gold, pred, mode="strict", scheme=IOB2)
    assert abs(ours(gold, pred, "seqeval-strict") - strict) < 1e-12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    gold, pred = corpus(args.sentences)
    check(gold, pred)
    frame = Frame.of([24] * len(gold), KINDS)
    gold_spans, pred_spans = ([tags_to_entities(tags) for tags in side] for side in (gold, pred))
    left, right = Mentions.of(frame, gold_spans), Mentions.of(frame, pred_spans)
    counts = np.zeros((1, len(gold), 3))
    for i, _, tp, fp, fn in count_rows(frame, left, right):
        counts[0, i] += (tp, tp + fp, tp + fn)
    rng = np.random.default_rng(0)

    def rescore(times: int) -> list[float]:
        out = []
        for _ in range(times):
            drawn = rng.integers(0, len(gold), len(gold))
            tp = fp = fn = 0
            for i in drawn:
                g, p = set(gold_spans[i]), set(pred_spans[i])
                tp, fp, fn = tp + len(g & p), fp + len(p - g), fn + len(g - p)
            out.append(200 * tp / (2 * tp + fp + fn))
        return out

    fast, slow = bootstrap(counts, METRICS["strict.f1"], seed=1, resamples=1000), np.array(rescore(100))
    assert abs(fast.mean() - slow.mean()) < 0.2
    assert 0.7 < fast.std() / slow.std() < 1.4
    times = time_all(
        {
            "ours, default rule": lambda: ours(gold, pred, "seqeval-default"),
            "seqeval default": lambda: f1_score(gold, pred),
            "ours, strict rule": lambda: ours(gold, pred, "seqeval-strict"),
            "seqeval strict IOB2": lambda: f1_score(gold, pred, mode="strict", scheme=IOB2),
            "ours, entity lists": lambda: count(Mentions.of(frame, gold_spans), Mentions.of(frame, pred_spans)),
            "bootstrap, 1,000": lambda: percentiles(bootstrap(counts, METRICS["strict.f1"], seed=1, resamples=1000)),
            "rescoring span sets, 10": lambda: rescore(10),
            "rescoring seqeval, 1": lambda: f1_score(gold, pred),
        },
        args.repeats,
    )
    report(times, args)


def report(times: dict[str, dict[str, float]], args: argparse.Namespace) -> None:
    """Print times and ratios; write them when asked."""
    for name, t in times.items():
        print(f"{name:26s} min {t['min']:9.2f} ms  median {t['median']:9.2f} ms  spread {t['spread']:.2f}")
    ratios = {}
    for name, slow, fast, factor in (
        ("scorer against seqeval default", "seqeval default", "ours, default rule", 1),
        ("scorer against seqeval strict", "seqeval strict IOB2", "ours, strict rule", 1),
        ("bootstrap against rescoring span sets", "rescoring span sets, 10", "bootstrap, 1,000", 100),
        ("bootstrap against rescoring with seqeval", "rescoring seqeval, 1", "bootstrap, 1,000", 1000),
    ):
        ratios[name] = {key: factor * times[slow][key] / times[fast][key] for key in ("min", "median")}
        print(f"{name}: {ratios[name]['min']:.1f}x (min), {ratios[name]['median']:.1f}x (median)")
    if args.output:
        write_json(args.output, {"sentences": args.sentences, "ms": times, "ratios": ratios})
    wanted = {"scorer against seqeval default": 6, "scorer against seqeval strict": 15}
    wanted |= {"bootstrap against rescoring span sets": 100}
    assert all(ratios[name]["min"] >= least for name, least in wanted.items()), f"below {json.dumps(wanted)}"


if __name__ == "__main__":
    main()
