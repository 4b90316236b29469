"""The tables and figures of a paper plan from nothing, by name; the small one too."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fewtable.plan import Plan
from fewtable.registry import Registry
from fixtures.project import Project

TABLES = ("table1", "table2", "table3", "table5", "table1-small")
FIGURES = ("figure3", "figure4", "figure5", "figure6")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Project:
    project = Project.make(tmp_path_factory.mktemp("paper") / "project")
    config = project.root / "config/config.yaml"
    config.write_text(config.read_text().replace("\nmirror:\n", f"\nmirror: {mirror}\n"))
    return project


def jobs(project: Project, *targets: str) -> dict[str, int]:
    """The number of jobs of each rule that a call would run."""
    done = project.run("-n", *targets, "--quiet", "rules")
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)}


def test_all_tables_and_figures_plan(project: Project) -> None:
    targets = [f"results/instructionner/{name}.csv" for name in TABLES]
    targets += [f"results/instructionner/{name}.{form}" for name in FIGURES for form in ("svg", "png", "csv")]
    planned = jobs(project, *targets)
    plan = Plan(Registry(project.root / "config"), {})
    cells = {run for name in TABLES for run in plan.cells("tables", f"instructionner/{name}")}
    cells |= {run for name in FIGURES for run in plan.cells("figures", f"instructionner/{name}")}
    assert (planned["table"], planned["figure"]) == (len(TABLES), len(FIGURES))
    assert planned["cell"] == planned["track"] == len(cells) > 150
    assert planned["train"] > len(cells), "the source runs come on top"
    planned_alone = jobs(project, "results/instructionner/figure6.png")
    assert (planned_alone["figure"], planned_alone["cell"]) == (1, 22)


def test_statistics_plan_from_the_data_alone(project: Project) -> None:
    planned = jobs(project, "results/instructionner/table4.html")
    assert set(planned) == {"fetch", "data", "statistics", "total"}
    assert (planned["data"], planned["statistics"]) == (8, 1)


def test_a_source_run_is_trained_once_for_all_shots(project: Project) -> None:
    planned = project.planned("results/instructionner/table3.csv")
    sources = [what for rule, what in planned if rule == "train" and what.endswith(".1-1")]
    for method in ("lc-bert", "lc-bart", "template-ner", "bartner", "lightner", "t5-natural", "instructionner"):
        assert f"{method}.1-1" in sources


def test_a_table_in_a_folder_is_shown_checked_and_may_be_the_default(project: Project) -> None:
    shown = project.cli("show", "table", "instructionner/table3").stdout
    assert "lc-bert-transfer/mit-restaurant-10/baseline: mit-restaurant/10-shot/lc-bert/bert-large-uncased" in shown
    assert "did you mean 'instructionner/table1'?" in project.cli("show", "table", "instructioner/table1").stderr
    assert "cells:" in project.cli("show", "figure", "instructionner/figure6").stdout
    done = project.cli("check")
    assert "all config is valid" in done.stdout, done.stdout
    assert "instructionner/table2: ontonotes5/10-shot" in done.stdout
    with project.edited("config/config.yaml", "tables: [demo]", "tables: [instructionner/table1-small]"):
        planned = jobs(project)
    assert planned["table"] == planned["report"] == 1


def test_a_printed_value_redraws_its_figure_and_a_caption_its_table_only(project: Project) -> None:
    plan = Plan(Registry(project.root / "config"), {})
    figure, table = plan.figure_params("instructionner/figure6"), plan.table_params("instructionner/table1-small")
    with project.edited("config/figures/instructionner/figure6.yaml", "[65.5, 1.4]", "[65.6, 1.4]"):
        other = Plan(Registry(project.root / "config"), {})
        assert other.figure_params("instructionner/figure6") != figure
        assert other.table_params("instructionner/table1-small") == table
    blocked = json.loads(plan.table_params("instructionner/table2"))["blocked"]
    assert len(blocked) == 18 and all("gold_conll" in reason for reason in blocked.values())
