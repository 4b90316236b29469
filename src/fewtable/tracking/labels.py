"""Tags of a cell that stand in the configuration and not in the cell."""

from __future__ import annotations

from fewtable.errors import FewtableError
from fewtable.plan import Plan


def labels(plan: Plan) -> dict[str, dict[str, str]]:
    """Return cell key -> {"tables": the tables and figures that select it, "paper": its method's paper}."""
    tables: dict[str, dict[str, None]] = {}
    papers: dict[str, str] = {}
    for kind, name in plan.registry.all("tables", "figures"):
        try:
            for run in plan.runs(kind, name).values():
                tables.setdefault(run.key, {})[name] = None
                if paper := plan.registry.method(run.method).paper:
                    papers[run.key] = paper
        except FewtableError:  # an unfinished one is its own business: cells of the others are tracked
            continue
    return {
        key: {"tables": ", ".join(names)} | ({"paper": papers[key]} if key in papers else {})
        for key, names in tables.items()
    }
