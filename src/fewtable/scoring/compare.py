"""Is one run better than another: paired tests and intervals on the same units and draws (methods/fs-13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fewtable.errors import ConfigError, DataError, did_you_mean
from fewtable.files import read_json, stable_seed
from fewtable.scoring.statistics import (
    RESAMPLES,
    Floats,
    Statistic,
    bootstrap,
    holm,
    p_of,
    percentiles,
    randomisation,
    sign_flip,
    swapped,
    t_interval,
)
from fewtable.scoring.units import COLUMNS, GOLD, METRICS, Units, draws_of, episode_f1, units_of

Draws = Mapping[int, Mapping[str, Any]]
EPISODE = "episode.f1"


def load_run(path: Path) -> dict[int, dict[str, Any]]:
    """Return the draws of a scores file, or of all scores files of a cell.

    Raises:
        DataError: the file, or a scores file that the cell names, is missing or is neither.
    """
    value = read_json(path)
    if isinstance(value, dict) and "scorer" in value and isinstance(value.get("draws"), dict):
        return draws_of([value], [str(path)])
    if not isinstance(value, dict) or not {"run", "blocks", "query"} <= value.keys():
        raise DataError(
            "neither a cell nor a scores file",
            where=str(path),
            fix="give results/cells/DATASET/SETTING/METHOD/BACKBONE.json or a run's scores.SPLIT.json",
        )
    home = path.resolve().parents[5] if len(path.resolve().parents) > 5 else Path()
    files = [home / value["run"] / block / f"scores.{value['query']}.json" for block in map(str, value["blocks"])]
    return draws_of([read_json(file) for file in files], [str(file) for file in files])


def compare_files(a: Path, b: Path, metric: str = "strict.f1", resamples: int = RESAMPLES) -> dict[str, Any]:
    """Compare two runs given as cell or scores files; see ``compare``."""
    return compare(load_run(a), load_run(b), metric, resamples)


def compare(a: Draws, b: Draws, metric: str = "strict.f1", resamples: int = RESAMPLES) -> dict[str, Any]:
    """Compare run A with run B.

    Args:
        a: the draws of a run, by number (``load_run``, ``draws_of``).
        b: the same draws of the other run.
        metric: a key of units.METRICS, or ``episode.f1`` where draws are episodes.
        resamples: of the randomisation test and of the bootstrap.

    Returns:
        ``a``, ``b`` and ``difference`` (a - b, percent points); ``p``: paired approximate randomisation over units;
        ``p_draws``: exact sign-flip over draws and ``p_draws_least``, the least it could be; ``low``, ``high``: 95%
        two-way bootstrap interval of the difference; ``t_low``, ``t_high``: 95% t interval over draws; ``relative``,
        ``relative_low``, ``relative_high``: the change in percent of B's value; null where undefined.

    Raises:
        DataError: draws, sentences or gold differ, or the metric is undefined for a run.
        ConfigError: an unknown metric.
    """
    left, right, statistic = _laid_out(a, b, metric)
    a_draws, b_draws = (statistic(side.counts.sum(axis=1)) for side in (left, right))
    if np.isnan(a_draws).any() or np.isnan(b_draws).any():
        raise DataError(f"'{metric}' is undefined for a draw: no prediction found a gold mention")
    a_mean, b_mean = float(a_draws.mean()), float(b_draws.mean())
    differences = (a_draws - b_draws).tolist()
    seed = stable_seed("compare", metric)
    both = np.concatenate([left.counts, right.counts], axis=2)
    size = left.counts.shape[2]
    pairs = bootstrap(both, partial(_pair, statistic, size=size), seed=seed, resamples=resamples)
    t_low, t_high = t_interval(differences) or (None, None)
    return {
        "metric": metric,
        "unit": "episode" if left.pooled else "sentence",
        "units": left.counts.shape[1],
        "draws": list(left.draws),
        "p": randomisation(left.counts, right.counts, statistic, seed=seed, resamples=resamples),
        "p_draws": sign_flip(differences),
        "p_draws_least": 2 / 2 ** len(differences) if len(differences) <= 20 else None,
        "t_low": t_low,
        "t_high": t_high,
        "resamples": resamples,
        **_changes(a_mean, b_mean, pairs),
    }


def _changes(a: float, b: float, pairs: Floats) -> dict[str, float | None]:
    """Return two values, their difference and relative change, with intervals from resampled (a, b)."""
    low, high = percentiles(pairs[:, 0] - pairs[:, 1]) or (None, None)
    usable = pairs[pairs[:, 1] != 0]
    relative = percentiles(100 * (usable[:, 0] - usable[:, 1]) / usable[:, 1])
    return {
        "a": a,
        "b": b,
        "difference": a - b,
        "low": low,
        "high": high,
        "relative": 100 * (a - b) / b if b else None,
        "relative_low": relative.low if relative else None,
        "relative_high": relative.high if relative else None,
    }


def compare_mean(
    pairs: Sequence[tuple[Draws, Draws]], metric: str = "strict.f1", resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Compare run A with run B by the mean of a metric over several columns, as in an average of a table.

    Each column is resampled and swapped on its own, for its units are its own.

    Returns:
        ``metric``, ``a``, ``b``, ``difference``, ``p``, ``low``, ``high``, ``relative``, ``relative_low`` and
        ``relative_high`` as ``compare``.

    Raises:
        DataError, ConfigError: as ``compare``.
    """
    found, sampled, null = [], [], []
    for number, (a, b) in enumerate(pairs):
        left, right, statistic = _laid_out(a, b, metric)
        size, seed = left.counts.shape[2], stable_seed("compare", metric, number)
        found.append([float(statistic(side.counts.sum(axis=1)).mean()) for side in (left, right)])
        both = np.concatenate([left.counts, right.counts], axis=2)
        sampled.append(bootstrap(both, partial(_pair, statistic, size=size), seed=seed, resamples=resamples))
        null.append(swapped(left.counts, right.counts, statistic, seed=seed, resamples=resamples))
    if np.isnan(found).any():
        raise DataError(f"'{metric}' is undefined in a column: no prediction found a gold mention")
    a_mean, b_mean = np.mean(found, axis=0).tolist()
    return {
        "metric": metric,
        "p": p_of(a_mean - b_mean, np.mean(null, axis=0)),
        **_changes(a_mean, b_mean, np.mean(sampled, axis=0)),
    }


def compare_all(
    families: Sequence[Sequence[tuple[Draws, Draws]]], metric: str = "strict.f1", resamples: int = RESAMPLES
) -> list[dict[str, Any]]:
    """Compare runs pair by pair, several pairs at once by their mean; each result also holds Holm's ``p_holm``."""
    results = [
        compare(*pairs[0], metric, resamples) if len(pairs) == 1 else compare_mean(pairs, metric, resamples)
        for pairs in families
    ]
    adjusted = holm([result["p"] for result in results])
    return [{**result, "p_holm": p} for result, p in zip(results, adjusted, strict=True)]


def _pair(statistic: Statistic, sums: Floats, *, size: int) -> Floats:
    return np.stack([statistic(sums[..., :size]), statistic(sums[..., size:])], axis=-1)


def _paired(a: Draws, b: Draws) -> tuple[Units, Units]:
    if list(a) != list(b):
        raise DataError(
            f"the runs have different draws: {list(a)} and {list(b)}",
            fix="compare runs on the same samples",
        )
    for draw in a:
        if difference := sorted(set(a[draw]["ids"]) ^ set(b[draw]["ids"])):
            raise DataError(
                f"draw {draw}: {len(difference)} sentences are in one run only, first '{difference[0]}'",
                fix="compare runs that were asked the same sentences",
            )
    left, right = units_of(a), units_of(b)
    if wrong := np.argwhere(left.counts[..., GOLD] != right.counts[..., GOLD]).tolist():
        raise DataError(
            f"the runs were scored against different gold, first in {left.names[wrong[0][1]]}",
            fix="score both again on the same data",
        )
    return left, right


def _laid_out(a: Draws, b: Draws, metric: str) -> tuple[Units, Units, Statistic]:
    """Return both runs' counts a unit, and the statistic of their sums."""
    left, right = _paired(a, b)
    statistic = _statistic(metric, left)
    return (_as_episodes(left), _as_episodes(right), statistic) if metric == EPISODE else (left, right, statistic)


def _statistic(metric: str, units: Units) -> Statistic:
    if metric == EPISODE:
        if not units.pooled:
            raise ConfigError(
                "'episode.f1' compares episodes, and all draws of these runs ask the same sentences",
                fix="take strict.f1",
            )
        count = units.counts.shape[1]
        return lambda sums: sums[..., 0] / count
    if metric not in METRICS:
        raise ConfigError(f"unknown metric '{metric}'", fix=did_you_mean(metric, [*METRICS, EPISODE]))
    return METRICS[metric]


def _as_episodes(units: Units) -> Units:
    """Return the F1 of each episode as its only column, so that sums over episodes give the mean."""
    assert units.counts.shape[2] == len(COLUMNS)
    return Units(episode_f1(units.counts[0])[None, :, None], units.names, units.draws, pooled=True)
