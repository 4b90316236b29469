"""UniversalNER's tables and figures plan from nothing, by name; what cannot be had says why."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fewtable.plan import Plan
from fewtable.registry import Registry
from fixtures.project import Project

TABLES = ("table2", "table3", "table4", "table5")
FIGURES = ("figure5a", "figure5b", "figure6", "figure7", "figure9")


@pytest.fixture(scope="module")
def plan(root: Path) -> Plan:
    return Plan(Registry(root / "config"), {})


def test_all_tables_and_figures_plan(tmp_path: Path, mirror: Path, plan: Plan) -> None:
    project = Project.make(tmp_path / "project")
    config = project.root / "config/config.yaml"
    config.write_text(config.read_text().replace("\nmirror:\n", f"\nmirror: {mirror}\n"))
    targets = [f"results/universalner/{name}.csv" for name in TABLES]
    targets += [f"results/universalner/{name}.{form}" for name in FIGURES for form in ("svg", "png", "csv")]
    done = project.run("-n", *targets, "--quiet", "rules")
    found = re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    planned = {rule: int(count) for rule, count in found}
    cells = {run for name in TABLES for run in plan.cells("tables", f"universalner/{name}")}
    cells |= {run for name in FIGURES for run in plan.cells("figures", f"universalner/{name}")}
    assert (planned["table"], planned["figure"]) == (len(TABLES), len(FIGURES))
    assert planned["cell"] == len(cells) > 150
    assert planned["annotate"] == 2, "types and definitions"


def test_what_is_blocked_says_which_corpus_is_missing(plan: Plan) -> None:
    blocked = json.loads(plan.table_params("universalner/table3"))["blocked"]
    rows = {place.split("/")[0] for place in blocked}
    pickled = {"vicuna-7b", "vicuna-13b"}
    assert rows == {"instructuie-11b", "sup", "sup-type"} | pickled, "the others learn from no annotated corpus"
    for place, reason in blocked.items():
        why = "weights: the hub has pickles" if place.split("/")[0] in pickled else "licence: set licensed.ace04"
        assert reason.startswith(why)
    blocked = json.loads(plan.figure_params("universalner/figure5a"))["blocked"]
    assert blocked["zero-shot/uniner-7b/average/ace05"].startswith("licence: ")
    assert not [place for place in blocked if "/finance/" in place]


def test_a_row_with_a_setting_of_its_own_trains_on_each_dataset(plan: Plan) -> None:
    runs = plan.runs("tables", "universalner/table2")
    assert {run.setting for place, run in runs.items() if place.startswith("bert-base/")} == {"full"}
    model = plan.trained_model(runs["uniner-7b/fabner"], "1-1")
    assert model == "results/runs/uniner-supervised/full/uniner-sup-type-source/llama-7b/1-1/model"
