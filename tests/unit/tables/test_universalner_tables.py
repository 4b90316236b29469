"""UniversalNER's printed values, what its tables and figures are made of, and the runs behind them."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from fewtable.layouts import TableSpec
from fewtable.plan import Plan
from fewtable.predictions import entity_types, make_format
from fewtable.registry import Registry
from fewtable.resolve import Run
from fewtable.specs import DatasetSpec

OOD = ("mit-movie-uniner", "mit-restaurant-uniner", *(f"crossner-{d}-uniner" for d in ("ai", "literature", "music")))
OOD += ("crossner-politics-uniner", "crossner-science-uniner")
TABLES = ("table2", "table3", "table4", "table5")


@pytest.fixture(scope="module")
def registry(root: Path) -> Registry:
    return Registry(root / "config")


@pytest.fixture(scope="module")
def plan(registry: Registry) -> Plan:
    return Plan(registry, {})


def printed(table: TableSpec, row: str, column: str) -> float | None:
    assert table.printed is not None
    return table.printed.values[row].get(column, (None, None))[0]


@pytest.mark.parametrize(
    ("name", "row", "column", "value"),
    [
        ("table2", "bert-base", "genia", 73.3),
        ("table2", "instructuie-11b", "polyglotner", 53.31),
        ("table2", "uniner-7b", "findvehicle", 98.30),
        ("table3", "vicuna-13b", "s-restaurant", 0.4),
        ("table3", "chatgpt", "s-music", 66.6),
        ("table3", "instructuie-11b", "s-politics", 49.9),
        ("table3", "sup-type", "s-avg", 61.8),
        ("table4", "uniform", "s-movie", 42.5),
        ("table5", "uniner-7b", "p-music", 62.9),
        ("table5", "sup-type", "science", 70.8),
    ],
)
def test_printed_values(registry: Registry, name: str, row: str, column: str, value: float) -> None:
    assert printed(registry.table(f"universalner/{name}"), row, column) == value


@pytest.mark.parametrize("name", TABLES)
def test_printed_averages_are_those_of_the_printed_values(registry: Registry, name: str) -> None:
    table = registry.table(f"universalner/{name}")
    found = 0
    for row in table.rows:
        for average in table.averages:
            whole = printed(table, row.id, average.id)
            parts = [printed(table, row.id, column) for column in average.columns]
            if whole is not None:
                assert fmean(part for part in parts if part is not None) == pytest.approx(whole, abs=0.051)
                assert None not in parts
                found += 1
    assert found == {"table2": 3, "table3": 7, "table4": 3, "table5": 6}[name]


def test_a_cell_has_one_printed_value_in_all_tables(registry: Registry) -> None:
    seen: dict[tuple[str, str], float] = {}
    for name in TABLES:
        table = registry.table(f"universalner/{name}")
        for place, key in table.cells.items():
            row, column = place.split("/")
            metric = table.metric_of(next(c for c in table.columns if c.id == column))
            if (value := printed(table, row, column)) is not None:
                assert seen.setdefault((key, metric), value) == value
    figure = registry.figure("universalner/figure9")
    assert figure.printed is not None
    for series, points in figure.printed.values["all"].items():
        for point, (value, _) in points.items():
            key = figure.cells[f"all/{series}/{point}"]
            assert seen.get((key, "uniner"), value) == value
    assert sum(len(points) for points in figure.printed.values["all"].values()) == 24 + 24 + 7


def test_supervised_models_learn_from_the_papers_corpora(registry: Registry) -> None:
    benchmark = {row.dataset for row in registry.statistics("universalner/table6").rows}
    without = registry.dataset("uniner-supervised-ood").mixture
    whole = registry.dataset("uniner-supervised").mixture
    assert without and whole
    assert set(without.datasets) == benchmark - set(OOD) and without.limit == whole.limit == 10000
    columns = registry.table("universalner/table2").columns
    assert list(whole.datasets) == [column.dataset for column in columns] and len(columns) == 20
    for name in ("uniner-supervised", "uniner-supervised-ood"):
        types = entity_types({n: t.model_dump() for n, t in registry.dataset(name).types.items()})
        for form in ("uniner", "instructuie"):
            make_format({"name": form}, types)


def test_who_starts_from_whom_and_who_names_the_dataset(plan: Plan) -> None:
    def chain(method: str, dataset: str) -> list[tuple[str, str, str, object]]:
        run: Run | None = Run(dataset, "zero-shot-200k", method, "tiny-llama")
        found = []
        while run is not None:
            made = plan.method(run)
            options = made.format_options
            found.append((run.dataset, run.method, options["negatives"], options["dataset"]))
            run = made.init
        return found

    distilled = ("common-pile-gpt-4o-mini", "uniner-type-source", "frequency", False)
    assert chain("uniner-type", "ace05")[1:] == [distilled]
    for negatives in ("none", "uniform"):
        assert chain(f"uniner-{negatives}", "ace05")[1:] == [
            ("common-pile-gpt-4o-mini", f"uniner-{negatives}-source", negatives, False)
        ]
    assert [step[0] for step in chain("uniner-definition", "ace05")[1:]] == ["common-pile-gpt-4o-mini-definition"]
    learned = ("uniner-supervised", "uniner-sup-type-source", "inventory", True)
    assert chain("uniner-sup-type", "ace05") == [("ace05", "uniner-sup-type", "inventory", True), learned, distilled]
    assert [step[3] for step in chain("uniner-sup-plain", "ace05")] == [False, False, False]
    assert len(chain("uniner-sup", "ace05")) == 2, "from the backbone itself"
    for method in ("uniner-sup-ood", "uniner-sup-type-ood"):
        assert {chain(method, dataset)[0][3] for dataset in OOD} == {False}
        assert chain(method, "ace05")[0][3] is chain(method, OOD[0])[1][3] is True
        assert {chain(method, dataset)[1][0] for dataset in OOD} == {"uniner-supervised-ood"}
    assert (
        plan.method(Run("ace05", "zero-shot-200k", "uniner-all-in-one", "tiny-llama")).format_options["query"] == "all"
    )


def test_the_figures_have_the_datasets_and_domains_of_table_6(registry: Registry) -> None:
    rows = registry.statistics("universalner/table6").rows
    assert [point.dataset for point in registry.figure("universalner/figure9").points] == [r.dataset for r in rows]
    domains: dict[str, list[str]] = {}
    for row in rows:
        domains.setdefault(row.group, []).append(row.dataset)
    for name in ("figure5a", "figure5b"):
        average, *parts = registry.figure(f"universalner/{name}").points
        assert list(average.datasets) == [row.dataset for row in rows]
        assert {part.title: list(part.datasets) for part in parts} == domains and len(parts) == 9


def test_figure_6_groups_datasets_by_shared_types(registry: Registry) -> None:
    points = registry.figure("universalner/figure6").points
    columns = registry.table("universalner/table2").columns
    assert [(p.id, p.dataset) for p in points] == [(c.id, c.dataset) for c in columns]

    def words(dataset: str | None) -> set[str]:
        assert dataset
        return {kind.words.lower() for kind in registry.dataset(dataset).types.values()}

    for point in points:
        others = set().union(*(words(other.dataset) for other in points if other is not point))
        assert (point.group == "types of other datasets too") == bool(words(point.dataset) & others), point.id


def test_figure_7_asks_the_same_sentences_in_other_words(registry: Registry) -> None:
    *ways, agreed = registry.figure("universalner/figure7").points
    assert len(ways) >= 5 and list(agreed.datasets) == [way.dataset for way in ways]

    def asked(spec: DatasetSpec) -> object:
        return (spec.files, spec.splits, spec.reader, spec.options, spec.drop, list(spec.types))

    specs = [registry.dataset(dataset) for dataset in agreed.datasets]
    assert all(asked(spec) == asked(specs[0]) for spec in specs)
    assert [spec.types["PER"].words for spec in specs] == [way.title for way in ways]
    assert registry.setting("zero-shot").query.limit is None, "a limit draws by the dataset's name"


def test_the_cap_is_the_papers(registry: Registry) -> None:
    assert registry.setting("zero-shot-200k").query.pairs == 200_000
    for name in TABLES:
        settings = {column.setting for column in registry.table(f"universalner/{name}").columns}
        assert settings == {"zero-shot-200k"}
