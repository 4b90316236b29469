"""The OBP-LLM paper's printed values, and that its tables agree with one another and differ where they say."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from fewtable.check import check_oracles
from fewtable.layouts import TableSpec
from fewtable.plan import Plan
from fewtable.registry import Registry
from fewtable.resolve import Run

LADDER = ("llama-sft", "llama-pre-sft", "obp-llm-sft", "obp-llm-no-contrast", "obp-llm")
"""Target SFT alone, after the source, with the contrast, without it but with DPO, with both."""
TABLES = ("table2", "table3", "table4", "table5", "table2-pooled", "table3-pooled", "small")


@pytest.fixture(scope="module")
def registry(root: Path) -> Registry:
    return Registry(root / "config")


def table(registry: Registry, name: str) -> TableSpec:
    return registry.table(f"obp-llm/{name}")


def printed(registry: Registry, name: str) -> dict[str, dict[str, tuple[float | None, float | None]]]:
    spec = table(registry, name)
    assert spec.printed is not None
    return spec.printed.values


@pytest.mark.parametrize(
    ("name", "row", "column", "value"),
    [
        ("table2", "protobert", "intra-5w-1", (23.45, 0.92)),
        ("table2", "structshot", "inter-10w-5", (49.49, 1.77)),
        ("table2", "llama-sft", "intra-10w-5", (67.75, None)),
        ("table2", "obp-llm", "inter-5w-5", (81.30, 3.79)),
        ("table2", "obp-llm", "intra-avg", (75.90, None)),
        ("table2", "baner", "inter-5w-1", (69.26, 0.94)),
        ("table3", "l-tapnet-cdt", "wiki-1", (12.04, 0.65)),
        ("table3", "matching-network", "news-1", (19.50, None)),
        ("table3", "obp-llm", "mixed-5", (59.81, 2.25)),
        ("table4", "no-contrast", "crossner-1-avg", (53.83, None)),
        ("table4", "no-dpo", "inter-avg", (79.56, None)),
        ("table2-pooled", "llama-pre-sft", "inter-avg", (78.13, None)),
    ],
)
def test_printed_values(
    registry: Registry, name: str, row: str, column: str, value: tuple[float, float | None]
) -> None:
    assert printed(registry, name)[row][column] == value


@pytest.mark.parametrize("name", ["table2", "table3", "table2-pooled", "table3-pooled"])
def test_every_printed_row_is_whole_and_its_averages_are_its_means(registry: Registry, name: str) -> None:
    spec = table(registry, name)
    assert len(spec.columns) == 8 and len(spec.averages) == 2
    silent = {row.id for row in spec.rows} - set(printed(registry, name))
    assert silent <= ({"cllmfs"} if name.startswith("table2") else {"baner", "cllmfs"})
    for row, values in printed(registry, name).items():
        assert set(values) == {column.id for column in spec.shown}
        for average in spec.averages:
            means = [values[column][0] for column in average.columns]
            found = values[average.id][0]
            assert found is not None
            # One misprint: StructShot's average of INTER.
            off = 0.021 if (row, average.id) == ("structshot", "inter-avg") else 0.0111
            assert fmean(m for m in means if m is not None) == pytest.approx(found, abs=off), (row, average.id)


def test_the_ablation_prints_the_averages_and_has_their_columns(registry: Registry) -> None:
    whole = table(registry, "table4")
    columns = [*table(registry, "table2").columns, *table(registry, "table3").columns]
    assert [c.model_dump() for c in whole.columns] == [c.model_dump() for c in columns]
    own = printed(registry, "table4")["obp-llm"]
    others = printed(registry, "table2")["obp-llm"] | printed(registry, "table3")["obp-llm"]
    assert own == {average.id: others[average.id] for average in whole.averages}
    rows = {row.id: row.method for row in whole.rows}
    assert rows == {"obp-llm": "obp-llm", "no-contrast": "obp-llm-no-contrast", "no-dpo": "obp-llm-sft"}


def test_boundary_errors_are_a_change_of_the_rate_over_the_fine_tuned_model(registry: Registry) -> None:
    spec = table(registry, "table5")
    assert (spec.metric, spec.printed and spec.printed.gains) == (
        "ber",
        {"dpo": {"fewnerd": -10.3, "crossner": -11.69}},
    )
    (sft, dpo), (pair,) = spec.rows, spec.compare
    assert (sft.method, dpo.method, dpo.baseline, pair) == ("obp-llm-sft", "obp-llm", "obp-llm-sft", ("dpo", "sft"))
    assert spec.columns == table(registry, "table4").columns


def test_the_pooled_protocol_has_tables_of_its_own(registry: Registry) -> None:
    plan = Plan(registry, {})
    for name in TABLES:
        check_oracles(plan, f"obp-llm/{name}")
        settings = {s for c in table(registry, name).columns for s in (c.setting, *(o.setting for o in c.instead))}
        marked = {bool(registry.setting(setting).oracle) for setting in settings}
        assert marked == {name.endswith("-pooled")}


def test_columns_show_the_official_episodes_else_what_is_open(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    plan = Plan(Registry(Path("config")), {"mirror": "/nowhere"})
    for name, wanted in {
        "table2": {"fewnerd-intra-episodes": 4, "fewnerd-inter-open": 4},
        "table3": {"crossner-open-news": 2, "crossner-open-wiki": 2, "crossner-social": 2, "crossner-hou-mixed": 2},
    }.items():
        shown = [column.dataset for column in plan.table(f"obp-llm/{name}").columns]
        if any(Path("results/raw", dataset).exists() for dataset in ("fewnerd-inter-episodes", "crossner-hou-news")):
            pytest.skip("official episodes are here")
        assert {dataset: shown.count(dataset) for dataset in shown} == wanted
    (news, _) = plan.table("obp-llm/table3").averages
    assert (news.title, news.over) == ("Avg. (3 of 4)", ("news-1", "wiki-1", "social-1"))


def test_the_small_table_has_every_stage_on_open_data(registry: Registry) -> None:
    spec = table(registry, "small")
    methods = {row.method: row.backbone for row in spec.rows}
    assert {row.backbone for row in spec.rows} == {"none", "minilm", "minilm-random", "smollm2-135m"}
    assert all(methods[method] == "smollm2-135m" for method in LADDER)
    assert all(registry.setting(column.setting).draws == 20 for column in spec.columns)
    assert {column.dataset for column in spec.columns} == {
        "fewnerd-inter-open",
        *(f"crossner-open-{domain}" for domain in ("news", "wiki", "social")),
    }
    plan = Plan(registry, {})
    assert not any(plan.unavailable(run) for run in plan.runs("tables", "obp-llm/small").values())


def test_fewer_episodes_train_alike_and_pooled_ones_as_the_released_converters(registry: Registry) -> None:
    plan = Plan(registry, {})

    def resolved(setting: str, method: str) -> tuple[int, object]:
        found = plan.method(Run("fewnerd-inter-open", setting, method, "llama-3.1-8b"))
        return found.train["epochs"], found.format_options["negatives"]

    assert resolved("5-way-1-shot-50", "llama-sft") == resolved("5-way-1-shot", "llama-sft") == (10, "all")
    assert resolved("5-way-5-shot-50", "obp-llm-sft") == (5, "all")
    for method in (*LADDER, "baner", "cllmfs"):
        for pooled in ("5-way-1-shot-pooled", "hou-5-shot-official-pooled"):
            assert resolved(pooled, method)[1] == "none", (method, pooled)
    assert resolved("5-way-1-shot-pooled", "llama-pre-sft")[0] == 3
