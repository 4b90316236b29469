"""An episode by integer programme, for types whose sentences lead the random draw into dead ends.

k to 2k mentions a type in the support, q to 2q in the query, no sentence in both, random costs
(methods/fs-10-sampler-fewnerd-episodes.md, "As an integer programme").
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from fewtable.sampling.pool import Pool
from fewtable.sampling.programme import cheapest, even_weights, solve


def band_episode(
    pool: Pool,
    candidates: Sequence[int],
    ways: Sequence[int],
    shots: tuple[int, int],
    rng: Random,
    time_limit: int,
) -> tuple[list[int], list[int]] | None:
    """Return support and query positions for the types ``ways``; None when it is proven that there are none.

    Args:
        pool: the split.
        candidates: positions of sentences that hold types of ``ways`` alone.
        ways: type indices.
        shots: k and q.
        rng: the draw's random numbers, for the costs.
        time_limit: seconds the solver may take.

    Raises:
        DataError: nothing was proven in time.
    """
    import pulp

    weights = even_weights(pool, candidates, rng)
    most = [2 * sum(shots)] * len(pool.types)
    kept = sorted(p for members in cheapest(pool.grouped(candidates), weights, most).values() for p in members)
    problem = pulp.LpProblem("episode", pulp.LpMinimize)
    parts = [{p: problem.add_variable(f"{name}{p}", cat=pulp.LpBinary) for p in kept} for name in "xy"]
    problem += pulp.LpAffineExpression([(v, weights[p]) for part in parts for p, v in part.items()])
    for position in kept:
        problem += parts[0][position] + parts[1][position] <= 1
    for part, k in zip(parts, shots, strict=True):
        for way in ways:
            terms = [(v, n) for p, v in part.items() for index, n in pool.counts[p] if index == way]
            problem += pulp.LpAffineExpression(terms) >= k
            problem += pulp.LpAffineExpression(terms) <= 2 * k
    if not solve(problem, time_limit):
        return None
    support, query = ([p for p, v in part.items() if v.value() > 0.5] for part in parts)
    return support, query
