"""What a method or setting is told that nobody knows: marked in every form, apart from what is not told."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fewtable.check import check, check_oracles
from fewtable.errors import ConfigError
from fewtable.files import read_json
from fewtable.layouts import TableSpec
from fewtable.plan import Plan
from fewtable.registry import Registry
from fewtable.resolve import Run
from fewtable.scoring.cell import build_cell
from fewtable.tables import Table, build, from_params, render_csv, render_html, render_md, render_tex
from fixtures.results_tree import write_results_tree

TOLD = "Each sentence is asked only about the types that it holds."
LEAK = "It reads the test sentences."
ROWS = [
    {"id": "bert", "title": "LC-BERT", "method": "lc-bert", "backbone": "minilm"},
    {"id": "inst", "title": "InstructionNER", "method": "instructionner", "backbone": "smollm2"},
]
COLUMNS = [
    {"id": "fair", "title": "Fair", "dataset": "toy", "setting": "2-shot"},
    {"id": "pooled", "title": "Pooled", "dataset": "toy", "setting": "2-shot-pooled"},
]


def spec(**changes: Any) -> TableSpec:
    return TableSpec.model_validate({"title": "T", "rows": ROWS, "columns": COLUMNS} | changes)


@pytest.fixture
def cells(tmp_path: Path) -> list[dict[str, Any]]:
    """The fixture's cells, and the same in a setting that is an oracle."""
    write_results_tree(tmp_path)
    found = [read_json(path) for path in sorted((tmp_path / "cells").rglob("*.json"))]
    return [*found, *({**cell, "setting": "2-shot-pooled", "flags": ["oracle"], "oracles": [TOLD]} for cell in found)]


def rows_of(table: Table) -> dict[tuple[str, str], dict[str, str]]:
    return {(r["row"], r["column"]): r for r in csv.DictReader(io.StringIO(render_csv(table)))}


ORACLES = {"/pooled": (TOLD,), "bert/pooled": (TOLD,), "inst/pooled": (TOLD,)}


def test_a_marked_column_compares_its_own_values_and_says_what_it_tells(cells: list[dict[str, Any]]) -> None:
    table = build("t", spec(), cells, oracles=ORACLES)
    rows = rows_of(table)
    assert rows["inst", "pooled"]["mean"] == rows["inst", "fair"]["mean"] != ""
    assert (rows["inst", "pooled"]["oracle"], rows["inst", "pooled"]["flags"]) == (TOLD, "oracle")
    assert rows["inst", "fair"]["oracle"] == ""
    assert table.entries["inst", "pooled"].best and not table.apart
    assert table.marks["/pooled"] and "/fair" not in table.marks and "inst" not in table.marks
    assert dict(table.footnotes)[table.marks["/pooled"][0]] == f"Oracle: {TOLD}"
    for render in (render_md, render_tex, render_html):
        assert TOLD in render(table) and "Not comparable" not in render(table)
    mark = table.marks["/pooled"][0]
    assert f"| Pooled <sup>{mark}</sup> |" in render_md(table)
    assert rf"& Pooled\textsuperscript{{{mark}}}" in render_tex(table)
    assert 'Pooled<sup><a href="#note-t-a" aria-label="note a">a</a></sup></th>' in render_html(table)


def test_without_the_columns_mark_such_a_value_stands_apart(cells: list[dict[str, Any]]) -> None:
    table = build("t", spec(), cells)
    assert rows_of(table)["inst", "pooled"]["mean"] == ""
    assert [row.id for row in table.apart] == ["bert", "inst"]


def test_a_method_with_an_oracle_is_apart_in_fair_columns_alone(cells: list[dict[str, Any]]) -> None:
    for cell in cells:
        if cell["method"] == "lc-bert":
            cell["flags"] = ["oracle"]
    told = ORACLES | {"bert/fair": (LEAK,), "bert/pooled": (TOLD, LEAK)}
    table = build("t", spec(), cells, oracles=told)
    rows = rows_of(table)
    assert (rows["bert", "fair"]["mean"], rows["bert", "fair"]["oracle"]) == ("", LEAK)
    assert float(rows["bert", "fair"]["flagged_mean"]) > 0 and rows["bert", "pooled"]["mean"] != ""
    assert rows["bert", "pooled"]["oracle"] == f"{TOLD} {LEAK}"
    texts = dict(table.footnotes)
    assert f"Oracle: {LEAK}" in [texts[mark] for mark in table.marks["bert"]]
    for render in (render_md, render_tex, render_html):
        assert LEAK in render(table) and "see below" in render(table)


def test_the_cell_keeps_the_sentences(tmp_path: Path) -> None:
    write_results_tree(tmp_path)
    from fewtable.corpus import read_samples

    samples = read_samples(tmp_path / "samples/toy/2-shot/1-2.jsonl")
    scores = [read_json(path) for path in (tmp_path / "runs/toy/2-shot/lexicon").rglob("scores.test.json")]
    names = {"dataset": "toy", "setting": "2-shot", "method": "lexicon", "backbone": "none", "query": "test"}
    request: dict[str, Any] = {**names, "blocks": ["1-2"], "spec": {}}
    assert build_cell(request, samples, scores).oracles == ()
    told = build_cell({**request, "oracles": [TOLD]}, samples, scores)
    assert told.oracles == (TOLD,) and told.flags[-1] == "oracle"


# --- the plan and the check -------------------------------------------------------------------------

Config = Callable[..., Plan]


@pytest.fixture
def config(root: Path, tmp_path: Path) -> Config:
    """A config folder with an oracle method, one that starts from it, a pooled setting, and one table."""
    for kind in ("settings", "datasets", "backbones", "corpora", "teachers"):
        shutil.copytree(root / "config" / kind, tmp_path / kind)
    (tmp_path / "methods").mkdir()
    for path in (root / "config/methods").glob("instructionner*.yaml"):
        shutil.copy(path, tmp_path / "methods")
    put = {
        "methods/leak.yaml": {"extends": "instructionner-causal", "oracle": LEAK},
        "methods/later.yaml": {"extends": "instructionner-causal", "init": {"method": "leak"}},
        "settings/asked.yaml": {"extends": "5-way-1-shot", "sampler": {"pool": 2}, "draws": 1, "oracle": TOLD},
        "settings/few.yaml": {"extends": "5-way-1-shot", "draws": 2},
    }
    for name, value in put.items():
        (tmp_path / name).write_text(yaml.safe_dump(value))

    def made(rows: dict[str, dict[str, Any]], settings: tuple[str, ...] = ("few",), **more: Any) -> Plan:
        (tmp_path / "tables").mkdir(exist_ok=True)
        names = {"title": "x", "backbone": "smollm2-135m"}
        value = {
            "title": "T",
            "rows": [{"id": row, **names, "method": row, **keys} for row, keys in rows.items()],
            "columns": [
                {"id": s, "title": s, "dataset": "fewnerd-inter-open", "setting": s, **more.pop(s, {})}
                for s in settings
            ],
            **more,
        }
        (tmp_path / "tables/t.yaml").write_text(yaml.safe_dump(value))
        return Plan(Registry(tmp_path), {"tables": ["t"]})

    return made


def errors(plan: Plan) -> str:
    try:
        check_oracles(plan, "t")
    except ConfigError as error:
        return str(error)
    return ""


def test_a_row_with_an_oracle_must_say_so(config: Config) -> None:
    assert "row 'leak' is told what nobody knows" in errors(config({"leak": {}}))
    later = config({"later": {}})
    assert "row 'later' is told what nobody knows" in errors(later), "its source was told"
    assert any("row 'later' is told what nobody knows" in error for error in check(later).errors)
    assert errors(config({"leak": {"oracle": True}, "instructionner-causal": {}})) == ""
    assert "row 'instructionner-causal' has no oracle" in errors(config({"instructionner-causal": {"oracle": True}}))


@pytest.mark.parametrize(
    ("method", "overridden", "options", "told"),
    [
        ("esd", "esd", {"decode": {"parity": "beam"}}, "beam search"),
        ("span-proto", "span-proto", {"decode": {"parity": "lowered-threshold"}}, "threshold falls"),
        ("decom-meta", "decom-meta", {"train": {"parity": ["stale-prototypes"]}}, "before the last step"),
        ("decom-meta", "decom-meta-source", {"train": {"parity": ["stale-prototypes"]}}, "before the last step"),
        ("span-proto", "span-proto-source", {"decode": {"parity": "lowered-threshold"}}, ""),
        ("esd", "esd", {"decode": {"threshold": 0.3}}, ""),
    ],
)
def test_a_fault_of_released_code_that_a_user_switches_on_is_told(
    root: Path, method: str, overridden: str, options: dict[str, Any], told: str
) -> None:
    registry = Registry(root / "config")
    run = Run("fewnerd-inter-open", "5-way-1-shot-20", method, "minilm")
    assert Plan(registry, {}).oracles(run) == ()
    plan = Plan(registry, {"overrides": {overridden: options}})
    assert [told in text for text in plan.oracles(run)] == ([True] if told else [])
    if told:
        with pytest.raises(ConfigError, match=f"row '{method}' is told what nobody knows"):
            check_oracles(plan, "obp-llm/small")
    else:
        check_oracles(plan, "obp-llm/small")


def test_in_marked_columns_any_row_may_stand(config: Config) -> None:
    assert errors(config({"leak": {}, "instructionner-causal": {}}, ("asked",))) == ""
    assert "row 'leak' is told" in errors(config({"leak": {}}, ("asked", "few")))
    own = config({"instructionner-causal": {"setting": "asked"}})
    assert "row 'instructionner-causal' is told" in errors(own), "its own setting stands in a fair column"


def test_marked_and_fair_columns_do_not_mix(config: Config) -> None:
    row: dict[str, dict[str, Any]] = {"instructionner-causal": {}}
    average = [{"id": "avg", "title": "Avg", "columns": ["asked", "few"]}]
    assert "'avg' averages an oracle's columns" in errors(config(row, ("asked", "few"), averages=average))
    other = {"instead": [{"title": "open", "dataset": "fewnerd-inter-open", "setting": "few"}]}
    assert "one is an oracle's and the other is not" in errors(config(row, ("asked",), asked=other))


def test_the_plan_tells_cells_and_tables(config: Config) -> None:
    plan = config({"later": {"oracle": True}}, ("asked", "few"))
    run = Run("fewnerd-inter-open", "asked", "later", "smollm2-135m")
    assert plan.oracles(run) == (TOLD, LEAK) and TOLD in plan.cell_params(run)
    assert plan.oracles(run._replace(setting="few", method="instructionner-causal")) == ()
    params = yaml.safe_load(plan.table_params("t"))
    assert params["oracles"] == {"/asked": [TOLD], "later/asked": [TOLD, LEAK], "later/few": [LEAK]}
    assert dict(from_params(params, []).footnotes)["a"] == f"Oracle: {TOLD}"


def test_a_column_is_shown_where_its_source_can_be_had_too(config: Config, tmp_path: Path) -> None:
    other = {"instead": [{"title": "open", "dataset": "fewnerd-inter-open", "setting": "few"}]}
    plan = config({"instructionner-causal": {}}, few={"dataset": "near", **other})
    text = "extends: fewnerd-inter-open\ntitle: Near\nsource: "
    (tmp_path / "datasets/near.yaml").write_text(f"{text}fewnerd-intra\n")
    assert [column.dataset for column in plan.table("t").columns] == ["fewnerd-inter-open"]
    (tmp_path / "datasets/near.yaml").write_text(f"{text}conll2003\n")
    again = Plan(Registry(tmp_path), {})
    assert [column.dataset for column in again.table("t").columns] == ["near"]
