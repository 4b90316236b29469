"""The InstructionNER paper's printed values: spot checks, and that its tables and figures agree with one another."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewtable.layouts import FigureSpec, TableSpec
from fewtable.registry import Registry

Values = dict[str, dict[str, tuple[float | None, float | None]]]


@pytest.fixture(scope="module")
def registry(root: Path) -> Registry:
    return Registry(root / "config")


def values(table: TableSpec) -> Values:
    assert table.printed is not None
    return table.printed.values


@pytest.mark.parametrize(
    ("name", "row", "column", "printed"),
    [
        ("table1", "lc-bart", "mit-restaurant-20", (8.5, None)),
        ("table1", "bartner", "atis-50", (93.4, None)),
        ("table1", "instructionner-ee", "mit-movie-10", (66.1, 2.5)),
        ("table1", "instructionner-et-ee", "atis-20", (93.0, 0.1)),
        ("table2", "template-ner", "mit-movie-10", (38.7, 3.2)),
        ("table2", "bart-instruction", "ontonotes5-50", (34.4, 1.8)),
        ("table2", "instructionner-v1.1", "ontonotes5-20", (42.0, 0.6)),
        ("table3", "neigh-tag", "mit-restaurant-20", (3.6, None)),
        ("table3", "lightner-transfer", "mit-restaurant-50", (69.5, None)),
        ("table5", "lightner", "mit-movie-500", (84.8, None)),
        ("table5", "instructionner-et", "mit-restaurant-200", (76.0, None)),
    ],
)
def test_printed_values(
    registry: Registry, name: str, row: str, column: str, printed: tuple[float, float | None]
) -> None:
    assert values(registry.table(f"instructionner/{name}"))[row][column] == printed


@pytest.mark.parametrize(("name", "rows", "columns"), [("1", 9, 9), ("2", 6, 9), ("3", 10, 3), ("5", 9, 6)])
def test_every_cell_of_the_paper_has_its_value(registry: Registry, name: str, rows: int, columns: int) -> None:
    table = registry.table(f"instructionner/table{name}")
    assert (len(table.rows), len(table.columns)) == (rows, columns)
    for row in table.rows:
        assert set(values(table)[row.id]) == {column.id for column in table.columns}
        assert all(mean is not None for mean, _ in values(table)[row.id].values())


def test_printed_gains_are_the_difference_to_table_1(registry: Registry) -> None:
    table = registry.table("instructionner/table3")
    assert table.printed is not None
    before = values(registry.table("table1"))
    gained = {row.id: row.baseline for row in table.rows if row.baseline}
    assert set(table.printed.gains) == set(gained) and len(gained) == 7
    for row, baseline in gained.items():
        for column, gain in table.printed.gains[row].items():
            after, base = table.printed.values[row][column][0], before[baseline][column][0]
            assert after is not None and base is not None and after - base == pytest.approx(gain, abs=0.051)


def test_the_projects_table_repeats_the_papers(registry: Registry) -> None:
    own = values(registry.table("table1"))
    for name in ("table1", "table2"):
        for row, cells in values(registry.table(f"instructionner/{name}")).items():
            # MIT Movie stands in both tables of the paper; Table 1's value is taken.
            shown = {c: v for c, v in cells.items() if c in own[row] and not (name == "table2" and "movie" in c)}
            assert {c: own[row][c] for c in shown} == shown


@pytest.mark.parametrize("name", ["figure3", "figure4", "figure5", "figure6"])
def test_figures_print_what_the_tables_print(registry: Registry, name: str) -> None:
    figure: FigureSpec = registry.figure(f"instructionner/{name}")
    assert figure.printed is not None
    cells = figure.cells
    known = {}
    for table in ("table1", "instructionner/table1", "instructionner/table5"):
        spec = registry.table(table)
        for place, key in spec.cells.items():
            row, column = place.split("/")
            if printed := values(spec).get(row, {}).get(column):
                known[key] = printed
    found = {
        cells[f"{panel}/{series}/{point}"]: printed
        for panel, lines in figure.printed.values.items()
        for series, points in lines.items()
        for point, printed in points.items()
    }
    assert found and {key: known[key] for key in found} == found


def test_the_small_table_has_what_fits_in_a_package(registry: Registry) -> None:
    table = registry.table("instructionner/table1-small")
    assert len(table.rows) == 9 and {row.backbone for row in table.rows} == {"none", "minilm", "smollm2-135m"}
    assert {(c.dataset, c.setting) for c in table.columns} == {
        ("mit-movie", "10-shot-300"),
        ("mit-restaurant", "10-shot-300"),
    }
    setting = registry.setting("10-shot-300")
    assert (setting.draws, setting.query.limit, setting.sampler.k) == (2, 300, 10)
