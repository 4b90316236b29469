"""Tags of a cell that stand in the configuration and not in the cell."""

from __future__ import annotations

from fewtable.errors import FewtableError
from fewtable.plan import Plan


def labels(plan: Plan) -> dict[str, dict[str, str]]:
    """Return cell key -> {"tables": the tables that select it, "paper": its method's paper}, over all tables."""
    tables: dict[str, dict[str, None]] = {}
    papers: dict[str, str] = {}
    for name in plan.registry.names("tables"):
        try:
            for run in plan.table_runs(name).values():
                tables.setdefault(run.key, {})[name] = None
                if paper := plan.registry.method(run.method).paper:
                    papers[run.key] = paper
        except FewtableError:  # an unfinished table is its own business: cells of the others are tracked
            continue
    return {
        key: {"tables": ", ".join(names)} | ({"paper": papers[key]} if key in papers else {})
        for key, names in tables.items()
    }
