"""A cell: all draws of one run put together, as written to results/cells."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from fewtable.corpus import Sample
from fewtable.errors import DataError
from fewtable.files import stable_seed
from fewtable.scoring.block import SCORER
from fewtable.scoring.mentions import Counts, macro_type
from fewtable.scoring.statistics import bootstrap, percentiles, sample_sd
from fewtable.scoring.units import METRICS, Units, all_metrics, draws_of, episode_f1, units_of

MACRO = "strict.macro_f1"
"""Mean of the strict F1 of the types that have gold or predicted mentions: a diagnostic, without an interval."""

HALLUC = "strict_halluc"
"""Strict, with answers whose words are not in their sentence, which are dropped, as false positives (methods/99)."""

NONEMPTY = "strict_nonempty"
"""Strict over the sentences that have gold entities: LightNER's released reader drops the others (methods/07)."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Summary(_Model):
    """A metric over draws, in percent."""

    mean: float
    """Mean over draws; for episodes (draws with queries of their own) the metric of the summed counts."""
    sd: float | None
    """Sample standard deviation over draws (n - 1); null for one draw, and for summed counts, which have none."""
    n: int
    low: float | None
    """95% bootstrap interval over draws and sentences (over episodes); null where it is not computed."""
    high: float | None


class TypeScore(_Model):
    """Counts of one type summed over draws, and the metrics of the sums in percent."""

    tp: int
    fp: int
    fn: int
    precision: float
    recall: float
    f1: float


class Cell(_Model):
    """results/cells/DATASET/SETTING/METHOD/BACKBONE.json."""

    dataset: str
    setting: str
    method: str
    backbone: str
    scorer: str
    draws: tuple[int, ...]
    metrics: dict[str, Summary]
    per_draw: dict[str, dict[str, float]]
    per_type: dict[str, TypeScore]
    boundary: dict[str, Any]
    """Boundary errors by kind and offsets of wrong edges, summed over draws; under ``blind`` with types left aside."""
    dropped: dict[str, int]
    samples: dict[str, dict[str, Any]]
    data: dict[str, str]
    types: tuple[str, ...]
    spec: dict[str, Any]
    flags: tuple[str, ...]
    """``episodes``: draws are episodes, counts are summed; ``empty-episodes:N``: N episodes had nothing to find and
    nothing found; ``sample-short``: a draw's sample has fewer mentions of a type than asked for; ``oracle``: it was
    told what nobody knows."""
    oracles: tuple[str, ...]
    """What it was told that nobody knows: sentences of its setting's, its method's and their sources' YAML."""
    run: str
    blocks: tuple[str, ...]
    query: str


def build_cell(request: Mapping[str, Any], samples: Sequence[Sample], scores: Sequence[Mapping[str, Any]]) -> Cell:
    """Put a run's draws together.

    Args:
        request: dataset, setting, method, backbone, query (the split asked), blocks, spec (the resolved spec), and
            oracles where there are any.
        samples: the samples of all blocks.
        scores: the JSON values of the blocks' scores files.

    Raises:
        DataError: scores and samples hold different draws, or a draw occurs twice.
    """
    draws = draws_of(scores)
    numbers = sorted(sample.draw for sample in samples)
    if numbers != list(draws):
        raise DataError(
            f"the samples hold draws {numbers}, the scores {list(draws)}",
            fix="give the samples and scores of the same blocks",
        )
    ordered = sorted(samples, key=lambda sample: sample.draw)
    units = units_of(draws)
    per_draw = {str(draw): _draw_metrics(scored) for draw, scored in draws.items()}
    key = {name: str(request[name]) for name in ("dataset", "setting", "method", "backbone")}
    return Cell(
        **key,
        scorer=SCORER,
        draws=tuple(draws),
        metrics=_summaries(units, draws, per_draw),
        per_draw=per_draw,
        per_type=_per_type(draws),
        boundary=_merged([scored["boundary"] for scored in draws.values()]),
        dropped=_sum(scored["dropped"] for scored in draws.values()),
        samples={str(sample.draw): sample.header for sample in ordered},
        data={k: v for s in ordered for k, v in sorted(s.header.get("data_sha256", {}).items())},
        types=tuple(dict.fromkeys(name for sample in ordered for name in sample.types)),
        spec=dict(request["spec"]),
        flags=(*_flags(units, ordered), *(["oracle"] if request.get("oracles") else [])),
        oracles=tuple(request.get("oracles") or ()),
        run="/".join(("results/runs", *key.values())),
        blocks=tuple(request["blocks"]),
        query=str(request["query"]),
    )


def _sum(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(sorted(total.items()))


def _merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums of nested counts; offsets, which are keys of their own, rise."""
    total: dict[str, Any] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        values = [part[name] for part in parts if name in part]
        total[name] = _merged(values) if isinstance(values[0], Mapping) else sum(values)
    offsets = all(name.lstrip("-").isdigit() for name in total)
    return dict(sorted(total.items(), key=lambda item: int(item[0]))) if offsets else total


def _draw_metrics(scored: Mapping[str, Any]) -> dict[str, float]:
    """Return every defined metric of one draw, the mean over types under MACRO."""
    strict, span = _counts(scored["strict"]), _counts(scored["span"])
    sums = [n for c in (strict, span) for n in (c.tp, c.tp + c.fp, c.tp + c.fn)]
    near = [boundary["boundary"] for boundary in (scored["boundary"], scored["boundary"]["blind"])]
    values = all_metrics(np.array([*sums, *near], dtype=np.float64))
    out = {name: value for name, value in zip(METRICS, values.tolist(), strict=True) if not math.isnan(value)}
    out[MACRO] = macro_type(map(_counts, scored["types"].values()))
    return out | {f"{name}.f1": counts.f1 for name, counts in _beside(scored).items()}


def _beside(scored: Mapping[str, Any]) -> dict[str, Counts]:
    """Return the counts of one draw that stand beside the main ones: ``peer.NAME``, HALLUC and NONEMPTY."""
    strict = _counts(scored["strict"])
    with_gold = {sentence for sentence, _, tp, _, fn in scored["rows"] if tp + fn}
    inside = [row[2:] for row in scored["rows"] if row[0] in with_gold]
    return {
        **{f"peer.{name}": _counts(counts) for name, counts in scored["peers"].items()},
        HALLUC: strict._replace(fp=strict.fp + scored["dropped"].get("unmatched", 0)),
        NONEMPTY: Counts(*map(sum, zip((0, 0, 0), *inside, strict=True))),
    }


def _counts(value: Mapping[str, Any]) -> Counts:
    return Counts(value["tp"], value["fp"], value["fn"])


def _summaries(
    units: Units, draws: Mapping[int, Mapping[str, Any]], per_draw: Mapping[str, Mapping[str, float]]
) -> dict[str, Summary]:
    pooled = dict(zip(METRICS, all_metrics(units.counts.sum(axis=1))[0].tolist(), strict=True))
    beside = [_beside(scored) for scored in draws.values()]
    for name in beside[0]:
        pooled[f"{name}.f1"] = Counts(*np.array([counts[name] for counts in beside]).sum(axis=0).tolist()).f1
    pooled[MACRO] = macro_type(_type_sums(draws).values())
    sampled = bootstrap(units.counts, all_metrics, seed=stable_seed("bootstrap", "cell"))
    intervals = {name: percentiles(sampled[:, i]) for i, name in enumerate(METRICS) if len(sampled)}
    out = {}
    for name in pooled:
        values = [metrics[name] for metrics in per_draw.values() if name in metrics]
        if not values:
            continue
        mean = pooled[name] if units.pooled else float(np.mean(values))
        spread = None if units.pooled else sample_sd(values)
        out[name] = _summary(mean, spread, len(values), intervals.get(name))
    episodes = episode_f1(units.counts[0] if units.pooled else units.counts.sum(axis=1))
    interval = None
    if units.pooled:
        seed = stable_seed("bootstrap", "episodes")
        interval = percentiles(bootstrap(episodes[None, :, None], lambda sums: sums[..., 0] / len(episodes), seed=seed))
    out["episode.f1"] = _summary(float(episodes.mean()), sample_sd(episodes.tolist()), len(episodes), interval)
    return out


def _summary(mean: float, spread: float | None, n: int, interval: tuple[float, float] | None) -> Summary:
    low, high = interval or (None, None)
    return Summary(mean=mean, sd=spread, n=n, low=low, high=high)


def _type_sums(draws: Mapping[int, Mapping[str, Any]]) -> dict[str, Counts]:
    names = sorted({name for scored in draws.values() for name in scored["types"]})
    totals = {name: _sum(scored["types"].get(name, {}) for scored in draws.values()) for name in names}
    return {name: _counts(total) for name, total in totals.items()}


def _per_type(draws: Mapping[int, Mapping[str, Any]]) -> dict[str, TypeScore]:
    return {
        name: TypeScore(
            tp=int(counts.tp),
            fp=int(counts.fp),
            fn=int(counts.fn),
            precision=counts.precision,
            recall=counts.recall,
            f1=counts.f1,
        )
        for name, counts in _type_sums(draws).items()
    }


def _flags(units: Units, samples: Sequence[Sample]) -> tuple[str, ...]:
    flags = []
    if units.pooled:
        flags.append("episodes")
        counts = units.counts[0]
        if blank := int(((counts[:, 1] + counts[:, 2]) == 0).sum()):
            flags.append(f"empty-episodes:{blank}")
    if any(sample.header.get("short") for sample in samples):
        flags.append("sample-short")
    return tuple(flags)
