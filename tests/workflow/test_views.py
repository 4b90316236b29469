"""Views and cases plan from nothing, by name."""

from __future__ import annotations

import re

import pytest
import yaml

from fixtures.project import Project

METHOD = """\
title: M
family: causal
format: {name: brackets}
train: {epochs: 1, batch_size: 4, lr: 1.0e-3, template: bare}
"""
PAIR = {
    "title": "Pair",
    "datasets": ["wnut16-demo"],
    "setting": "5-shot-300",
    "backbone": "tiny-llama",
    "before": {"title": "Before", "method": "toy-before"},
    "after": {"title": "After", "method": "toy-after"},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project.make(tmp_path_factory.mktemp("views") / "project")
    for name in ("toy-before", "toy-after"):
        (project.root / f"config/methods/{name}.yaml").write_text(METHOD)
    for kind, name, more in (("views", "points", {"space": {}}), ("cases", "cases", {})):
        path = project.root / f"config/{kind}/toy/{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(PAIR | more))
    return project


def test_a_view_needs_models_and_cases_need_answers(project: Project) -> None:
    planned = project.rules("results/toy/points.png")
    assert planned["train"] == 2 and planned["look"] == planned["view"] == 1 and not planned["decode"]
    planned = project.rules("results/toy/cases.html")
    assert planned["decode"] == planned["score"] == 2 and planned["cases"] == 1 and not planned["look"]


def test_they_are_shown_and_a_misspelt_one_is_said(project: Project) -> None:
    shown = project.cli("show", "figure", "toy/points").stdout
    assert "wnut16-demo/before: wnut16-demo/5-shot-300/toy-before/tiny-llama" in shown
    assert "cells:" in project.cli("show", "table", "toy/cases").stdout
    done = project.run("-n", "results/toy/point.svg", check=False)
    assert done.returncode and "did you mean 'toy/points'?" in done.stdout + done.stderr


def test_the_papers_figures_plan_large_and_small(project: Project) -> None:
    for small in ("", "-small"):
        targets = [f"results/obp-llm/figure{n}{small}.{form}" for n, form in ((4, "png"), (5, "svg"), (6, "html"))]
        done = project.run("-n", *targets, "--quiet", "rules")
        planned = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE))
        assert (planned["look"], planned["view"], planned["cases"]) == ("2", "2", "1")
    assert planned["train"] == "4", "the source run, and one job for each of three methods"
