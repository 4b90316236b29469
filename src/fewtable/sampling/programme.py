"""Integer programmes over mention counts, solved by PuLP's CBC to a proof and the same way every time."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from fewtable.errors import DataError
from fewtable.sampling.pool import Counts, Pool

SOLVER = "CBC, one thread, gap 0"


def solve(problem: Any, time_limit: int) -> bool:
    """Solve a PuLP problem to proven optimality; return False when it is proven infeasible.

    Raises:
        DataError: neither was proven in ``time_limit`` seconds. What the solver holds by then depends on the
            machine's speed, so it is never used.
    """
    import pulp

    # `randomC` and `randomS` pin CBC's and Clp's seeds. CBC searches in one thread unless it is told a number of
    # threads; `threads=1` too starts a worker, which now and then sleeps for ten seconds.
    options = ["randomC 1", "randomS 1"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PuLP 4 drops the CBC it carries; the lock stays below
        solver = pulp.PULP_CBC_CMD(msg=False, timeLimit=time_limit, gapRel=0, options=options)
    problem.solve(solver)
    if problem.sol_status == pulp.LpSolutionOptimal:
        return True
    if problem.sol_status == pulp.LpSolutionInfeasible and problem.status == pulp.LpStatusInfeasible:
        return False
    raise DataError(
        f"the solver proved nothing in {time_limit} s, and an unproven sample would depend on the machine",
        fix="raise sampler.time_limit in the setting's YAML, or use rule 'capped'",
    )


def even_weights(pool: Pool, positions: Iterable[int], rng: Random) -> dict[int, float]:
    """Return a random cost a sentence that makes sparse and dense sentences equally likely.

    A sentence is worth its mentions' shadow prices, so a cost of U(0, 1) would prefer dense sentences; U(0, 1)
    times its mentions makes the cost of a mention the same in all.
    """
    return {p: rng.random() * sum(n for _, n in pool.counts[p]) for p in positions}


def cheapest(
    groups: dict[Counts, list[int]], weights: dict[int, float], most: Sequence[int]
) -> dict[Counts, list[int]]:
    """Keep of interchangeable sentences the cheapest ones that could fit below ``most`` mentions a type.

    No optimum is lost: a dearer twin enters only after all its cheaper ones.
    """
    return {
        counts: sorted(members, key=lambda p: (weights[p], p))[: min(most[index] // n for index, n in counts)]
        for counts, members in groups.items()
    }
