"""Views and cases are planned from config alone: files, params with exactly the keys that count, wrong names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from fewtable.check import check
from fewtable.errors import ConfigError
from fewtable.plan import Plan
from fewtable.registry import Registry

METHOD: dict[str, Any] = {
    "title": "M",
    "family": "causal",
    "format": {"name": "brackets"},
    "train": {"epochs": 1, "batch_size": 4, "lr": 1e-3, "template": "bare"},
}
PAIR: dict[str, Any] = {
    "title": "Pair",
    "datasets": ["crossner-open-news", "crossner-open-social"],
    "setting": "hou-1-shot",
    "backbone": "tiny-llama",
    "before": {"title": "Before", "method": "toy-before"},
    "after": {"title": "After", "method": "toy-after"},
}
ATTENTION = {"type": "PER", "sentence": ["said", "Nahed", "Dahlan"], "entities": ["Nahed Dahlan"]}
NEWS = "crossner-open-news/hou-1-shot"


@pytest.fixture
def make(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A plan of the project's config with two toy methods, a view of points and cases; ``space`` changes the view."""
    monkeypatch.chdir(root)
    config = tmp_path / "config"
    shutil.copytree(root / "config", config)

    def plan(user: Any = None, cases: Any = None, **view: Any) -> Plan:
        kinds = {"space": {}} if "attention" not in view else {}
        written = {
            "methods/toy-before": METHOD,
            "methods/toy-after": METHOD,
            "views/toy/points": PAIR | kinds | view,
            "cases/toy/cases": PAIR | (cases or {}),
        }
        for name, value in written.items():
            path = config / f"{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(value))
        return Plan(Registry(config), user or {})

    return plan


def test_a_view_reads_the_block_of_its_draw_and_cases_read_predictions(make: Any) -> None:
    files = make(draw=51).look_files("toy/points")
    assert f"results/runs/{NEWS}/toy-after/tiny-llama/51-100/model" in files
    assert f"results/samples/{NEWS}/51-100.jsonl" in files and "results/data/crossner-open-news/test.jsonl" in files
    assert len(files) == len(set(files)) == 1 + 2 * 4
    files = make().cases_files("toy/cases")
    assert f"results/runs/{NEWS}/toy-before/tiny-llama/151-200/predictions.test.jsonl" in files
    assert not any("model" in path or "backbones" in path for path in files)


def test_titles_draw_again_and_measure_nothing_again(make: Any) -> None:
    plain = make()
    measured, drawn = plain.look_params("toy/points"), plain.view_params("toy/points")
    shown = plain.cases_params("toy/cases")
    other = make(title="Another", caption="A caption.")
    assert other.look_params("toy/points") == measured and other.view_params("toy/points") != drawn
    other = make(layer=1)
    assert other.look_params("toy/points") != measured
    more = make(cases={"shown": 3})
    assert more.cases_params("toy/cases") != shown
    assert more.look_params("toy/points") == measured


def test_the_models_training_is_part_of_what_is_measured(make: Any) -> None:
    measured = make().look_params("toy/points")
    other = make(user={"overrides": {"toy-after": {"train": {"lr": 2e-3}}}})
    assert other.look_params("toy/points") != measured
    specs = json.loads(measured)["looks"]["crossner-open-news"]["specs"]
    assert specs["before"]["code"] == specs["after"]["code"] and specs["after"]["decoding"] is None


def test_a_blocked_dataset_has_its_reason_and_leaves_the_other(make: Any) -> None:
    changed = {"datasets": ["crossner-open-news", "ontonotes5"]}
    plan = make(cases=changed, **changed)
    for kind, params in (("views", plan.view_params("toy/points")), ("cases", plan.cases_params("toy/cases"))):
        name = "toy/points" if kind == "views" else "toy/cases"
        assert list(plan.pairs(kind, name)) == ["crossner-open-news"]
        blocked = json.loads(params)["blocked"]
        assert set(blocked) == {"ontonotes5/before", "ontonotes5/after"}
        assert all(reason.startswith("licence") for reason in blocked.values())
    assert not any("ontonotes5" in path for path in (*plan.look_files("toy/points"), *plan.cases_files("toy/cases")))


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({"datasets": ["crossner-open-new"]}, "did you mean 'crossner-open-news'"),
        ({"after": {"title": "A", "method": "toy-afte"}}, "did you mean 'toy-after'"),
        ({"setting": "hou-1-sho"}, "did you mean 'hou-1-shot'"),
        ({"backbone": "tiny-lama"}, "did you mean 'tiny-llama'"),
        ({"draw": 201}, "has 200 draws, and no draw 201"),
        ({"after": {"title": "A", "method": "instructionner-causal"}}, "can't be looked into"),
        ({"datasets": ["crossner-open-news"], "attention": ATTENTION | {"type": "PERS"}}, "did you mean 'PER'"),
    ],
)
def test_wrong_names_are_said(make: Any, view: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make(**view).looks("toy/points")
    assert message in str(raised.value)


def test_an_unknown_view_is_said_where_it_is_typed(make: Any) -> None:
    plan = make()
    plan.check_target("results/toy/points.svg")
    plan.check_target("results/views/toy/points.json")
    plan.check_target("results/toy/cases.html")
    for typed, meant in (
        ("toy/point.svg", "toy/points"),
        ("views/toy/point.json", "toy/points"),
        ("toy/case.md", "cases"),
    ):
        with pytest.raises(ConfigError) as raised:
            plan.check_target(f"results/{typed}")
        assert meant in str(raised.value)


def test_check_looks_at_views_and_cases(make: Any) -> None:
    found = check(make(draw=201, cases={"before": {"title": "B", "method": "toy-befor"}}))
    text = found.render()
    assert "has 200 draws, and no draw 201" in text and "did you mean 'toy-before'" in text
    assert found.counts["views"] >= 1 and found.counts["cases"] >= 1
