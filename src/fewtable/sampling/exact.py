"""Exactly k mentions a type, or the least slack (methods/fs-09-sampler-greedy-exact-k.md, D).

Two integer programmes. The first finds the least total overshoot over min(k, mentions there are), no type ever
below; it is 0 where equality is possible. The second holds that overshoot and minimises random costs, so that
each draw is another sample. It is not a uniform draw over all such samples. Both are solved to proof, and the
counts are checked in integers afterwards. docs/decisions/sampling.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from fewtable.errors import DataError
from fewtable.sampling.pool import Choice, Counts, Drawer, Pool
from fewtable.sampling.programme import SOLVER, cheapest, even_weights, solve
from fewtable.specs import SamplerSpec


def prepare(pool: Pool, sampler: SamplerSpec) -> Drawer:
    """Return the drawer of ``exact``."""
    assert sampler.k is not None
    limit = sampler.time_limit
    target = pool.targets(sampler.k)
    alike = pool.grouped(pool.candidates)
    slack = least_slack(alike, target, limit)
    notes = {"solver": {"name": SOLVER, "proven": True, "least_slack": slack}}

    def draw(rng: Random) -> Choice:
        weights = even_weights(pool, pool.candidates, rng)
        groups = cheapest(alike, weights, [n + slack for n in target])
        chosen = cheapest_sample(groups, weights, target, slack, limit)
        reached = pool.count(chosen)
        over = sum(r - t for r, t in zip(reached, target, strict=True))
        if over != slack or any(r < t for r, t in zip(reached, target, strict=True)):
            raise DataError(
                f"the solver's sample misses its bounds in integers: overshoot {over}, proven {slack}",
                fix="use rule 'capped', and report the setting and the dataset",
            )
        return Choice(chosen, target=pool.named(target), notes=notes)

    return draw


def least_slack(groups: Mapping[Counts, Sequence[int]], target: Sequence[int], time_limit: int) -> int:
    """Return the least total overshoot over ``target`` that any set of sentences reaches, proven."""
    import pulp

    problem = pulp.LpProblem("slack", pulp.LpMinimize)
    total: list[list[tuple[object, int]]] = [[] for _ in target]
    for number, (counts, members) in enumerate(groups.items()):
        taken = problem.add_variable(f"z{number}", 0, len(members), pulp.LpInteger)
        for index, mentions in counts:
            total[index].append((taken, mentions))
    over = [problem.add_variable(f"o{index}", 0) for index in range(len(target))]
    problem += pulp.lpSum(over)
    for index, terms in enumerate(total):
        problem += pulp.LpAffineExpression(terms) - over[index] == target[index]
    solve(problem, time_limit)
    slack: int = round(pulp.value(problem.objective))
    return slack


def cheapest_sample(
    groups: Mapping[Counts, Sequence[int]],
    weights: Mapping[int, float],
    target: Sequence[int],
    slack: int,
    time_limit: int,
) -> list[int]:
    """Return the sentences of least total weight that reach ``target`` with ``slack`` mentions to spare."""
    import pulp

    problem = pulp.LpProblem("sample", pulp.LpMinimize)
    taken = {
        position: problem.add_variable(f"x{position}", cat=pulp.LpBinary)
        for members in groups.values()
        for position in members
    }
    problem += pulp.LpAffineExpression([(variable, weights[p]) for p, variable in taken.items()])
    total: list[list[tuple[object, int]]] = [[] for _ in target]
    for counts, members in groups.items():
        for index, mentions in counts:
            total[index].extend((taken[p], mentions) for p in members)
    over = [problem.add_variable(f"o{index}", 0, slack) for index in range(len(target))]
    for index, terms in enumerate(total):
        problem += pulp.LpAffineExpression(terms) - over[index] == target[index]
    problem += pulp.lpSum(over) <= slack
    solve(problem, time_limit)
    return [position for position, variable in taken.items() if variable.value() > 0.5]
