from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fewtable.files import read_json
from fewtable.layouts import TableSpec
from fewtable.plan import Plan
from fewtable.registry import Registry
from fewtable.tables import build, render_csv, render_html, render_md, render_tex
from fewtable.tables.latex import escape
from fewtable.tables.lines import checkpoint_choice, data_text, lines, sample_text
from fewtable.tables.model import number
from fixtures.results_tree import write_results_tree

LICENCE = "licence: set licensed.ontonotes in config/config.yaml to the folder of your copy"
BLOCKED = {f"{row}/onto": LICENCE for row in ("lexicon", "bert", "inst")}
ODD = "50 % & <b>_x_</b> | #1 {a}\\b ~^$"


def spec(**changes: Any) -> TableSpec:
    base: dict[str, Any] = {
        "title": "Toy",
        "caption": "A caption.",
        "rows": [
            {"id": "lexicon", "title": "Lexicon", "method": "lexicon", "backbone": "none"},
            {"id": "bert", "title": "LC-BERT", "method": "lc-bert", "backbone": "minilm", "note": "Large."},
            {"id": "inst", "title": "InstructionNER", "method": "instructionner", "backbone": "smollm2"},
        ],
        "columns": [
            {"id": "toy", "title": "2-shot", "group": "Toy", "dataset": "toy", "setting": "2-shot"},
            {"id": "onto", "title": "10-shot", "group": "OntoNotes", "dataset": "ontonotes", "setting": "10-shot"},
        ],
        "printed": {"source": "A paper, Table 1", "values": {"bert": {"toy": [50.0, 1.5], "onto": [10.0, None]}}},
        "compare": [["inst", "bert"], ["bert", "lexicon"]],
    }
    return TableSpec.model_validate(base | changes)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree") / "results"
    write_results_tree(folder)
    return folder


@pytest.fixture
def cells(results: Path) -> list[dict[str, Any]]:
    return [read_json(path) for path in sorted((results / "cells").rglob("*.json"))]


def cell(cells: list[dict[str, Any]], method: str) -> dict[str, Any]:
    return next(c for c in cells if c["method"] == method)


def rows_of(text: str) -> dict[tuple[str, str], dict[str, str]]:
    return {(r["row"], r["column"]): r for r in csv.DictReader(io.StringIO(text))}


def test_csv_has_a_line_a_cell_and_numbers_of_the_cell(cells: list[dict[str, Any]]) -> None:
    rows = rows_of(render_csv(build("toy", spec(), cells, BLOCKED)))
    assert len(rows) == 6
    found, f1 = rows["bert", "toy"], cell(cells, "lc-bert")["metrics"]["strict.f1"]
    assert float(found["mean"]) == pytest.approx(f1["mean"], abs=1e-4)
    assert float(found["sd"]) == pytest.approx(f1["sd"], abs=1e-4)
    assert (found["n"], found["printed"], found["printed_sd"], found["status"]) == ("2", "50", "1.5", "ok")
    assert float(found["delta"]) == pytest.approx(f1["mean"] - 50, abs=1e-4)
    assert rows["inst", "toy"]["printed"] == rows["inst", "toy"]["delta"] == ""


GAINED = {
    "rows": [
        {"id": "bert", "title": "LC-BERT", "method": "lc-bert", "backbone": "minilm", "baseline": "before"},
        {"id": "inst", "title": "InstructionNER", "method": "instructionner", "backbone": "smollm2"},
    ],
    "printed": {
        "source": "A paper",
        "values": {"bert": {"toy": [50.0, None], "onto": [10.0, None]}},
        "gains": {"bert": {"toy": -2.5, "onto": 1.0}},
    },
    "compare": [],
}


def gained(cells: list[dict[str, Any]], **changes: Any) -> list[dict[str, Any]]:
    """The cells, and one of the method ``before`` that is 7 points below LC-BERT."""
    after = cell(cells, "lc-bert")
    f1 = after["metrics"]["strict.f1"]
    metrics = after["metrics"] | {"strict.f1": {**f1, "mean": f1["mean"] - 7}}
    return [*cells, {**after, "method": "before", "metrics": metrics} | changes]


def test_a_row_with_a_baseline_has_a_gain(cells: list[dict[str, Any]]) -> None:
    table = build("toy", spec(**GAINED), gained(cells), BLOCKED)
    rows = rows_of(render_csv(table))
    assert (rows["bert", "toy"]["gain"], rows["bert", "toy"]["gain_printed"]) == ("7", "-2.5")
    assert (rows["bert", "onto"]["gain"], rows["bert", "onto"]["gain_printed"]) == ("", "1")
    assert rows["inst", "toy"]["gain"] == rows["inst", "toy"]["gain_printed"] == ""
    assert " (+7.0)" in render_md(table) and "printed 50.0 (−2.5), Δ" in render_md(table)
    assert " (+7.0)" in render_html(table) and "(−2.5)" in render_html(table)
    assert " (+7.0)" in render_tex(table) and "($-$2.5)" in render_tex(table)
    assert "LC-BERT over before" in dict(table.lines)["Gain"]
    assert "Gain" not in dict(build("toy", spec(), cells).lines)


def test_a_baseline_that_is_not_there_or_not_comparable_gives_no_gain(cells: list[dict[str, Any]]) -> None:
    for found in (cells, gained(cells, flags=["oracle"])):
        entry = build("toy", spec(**GAINED), found, BLOCKED).entries["bert", "toy"]
        assert entry.value is not None and entry.gain is None
    cell(cells, "lc-bert")["flags"] = ["leak"]
    assert build("toy", spec(**GAINED), gained(cells, flags=[]), BLOCKED).entries["bert", "toy"].gain is None


def test_a_baseline_is_read_and_planned(results: Path, root: Path, tmp_path: Path) -> None:
    rows = [{"id": "a", "title": "A", "method": "lc-bert", "backbone": "minilm", "baseline": "nnshot"}]
    made = spec(rows=rows, columns=spec().columns[:1], printed=None, compare=[])
    assert made.cells == {"a/toy": "toy/2-shot/lc-bert/minilm", "a/toy/baseline": "toy/2-shot/nnshot/minilm"}
    (tmp_path / "tables/paper").mkdir(parents=True)
    (tmp_path / "tables/paper/table9.yaml").write_text(yaml.safe_dump(json.loads(made.model_dump_json())))
    shutil.copytree(root / "config/settings", tmp_path / "settings")
    for kind in ("methods", "backbones", "datasets"):
        shutil.copytree(root / "config" / kind, tmp_path / kind)
    (tmp_path / "datasets/toy.yaml").write_text("extends: mit-restaurant\n")
    (tmp_path / "settings/2-shot.yaml").write_text("extends: 10-shot\n")
    assert [run.method for run in Plan(Registry(tmp_path), {}).cells("tables", "paper/table9")] == ["lc-bert", "nnshot"]


@pytest.mark.parametrize("at", ["values", "gains", "compare"])
def test_a_misspelt_id_is_refused(at: str) -> None:
    printed = {"source": "s", "values": {}, "gains": {}}
    wrong = {"values": {"bret": {"toy": [1.0, None]}}, "gains": {"bert": {"toi": 1.0}}}
    options = {"compare": [["bert", "bret"]]} if at == "compare" else {"printed": {**printed, at: wrong[at]}}
    with pytest.raises(ValueError, match=r"no (row|column) has the id '(bret|toi)'; did you mean '(bert|toy)'"):
        spec(**options)


def test_a_table_in_a_folder_keeps_its_name_in_every_form(cells: list[dict[str, Any]]) -> None:
    table = build("paper/toy", spec(), cells, BLOCKED)
    assert r"\label{tab:paper/toy}" in render_tex(table)
    marks = set(re.findall(r'href="#(note-paper/toy-[^"]+)"', render_html(table)))
    assert marks and all(f'id="{mark}"' in render_html(table) for mark in marks)


def test_another_metric_fills_the_columns(cells: list[dict[str, Any]]) -> None:
    rows = rows_of(render_csv(build("toy", spec(metric="span"), cells)))
    assert rows["bert", "toy"]["metric"] == "span.f1"
    mean = cell(cells, "lc-bert")["metrics"]["span.f1"]["mean"]
    assert float(rows["bert", "toy"]["mean"]) == pytest.approx(mean, abs=1e-4)


def test_a_missing_licence_blocks_only_its_cells(cells: list[dict[str, Any]]) -> None:
    table = build("toy", spec(), cells, BLOCKED)
    assert {e.status for (_, c), e in table.entries.items() if c == "onto"} == {"licence"}
    assert {e.status for (_, c), e in table.entries.items() if c == "toy"} == {"ok"}
    for render in (render_md, render_tex, render_html):
        assert "licence" in render(table)
        assert "licensed.ontonotes" in render(table).replace("\\", "")
    assert table.entries["bert", "onto"].printed == 10.0


def test_cells_that_were_not_run_are_missing(cells: list[dict[str, Any]]) -> None:
    table = build("toy", spec(), [cell(cells, "lexicon")], BLOCKED)
    assert table.entries["bert", "toy"].status == "missing"
    assert "not been run" in render_md(table)


def test_best_is_marked_in_every_form_and_ties_together(cells: list[dict[str, Any]]) -> None:
    f1 = cell(cells, "instructionner")["metrics"]["strict.f1"]
    cell(cells, "lc-bert")["metrics"]["strict.f1"] = {**f1, "mean": f1["mean"] + 1e-6}
    table = build("toy", spec(), cells, BLOCKED)
    assert [row for (row, column), e in table.entries.items() if e.best] == ["bert", "inst"]
    assert render_md(table).count("**7") == 2
    assert render_tex(table).count(r"\textbf{7") == 2
    assert render_html(table).count("best in this column: ") == 2


def test_a_single_value_is_not_best(cells: list[dict[str, Any]]) -> None:
    table = build("toy", spec(), [cell(cells, "lexicon")])
    assert not any(e.best for e in table.entries.values())


def test_an_oracle_stands_apart(cells: list[dict[str, Any]], results: Path) -> None:
    cell(cells, "instructionner")["flags"] = ["oracle"]
    table = build("toy", spec(), cells, BLOCKED, results=results)
    row = rows_of(render_csv(table))["inst", "toy"]
    assert row["flags"] == "oracle"
    assert row["mean"] == row["sd"] == row["low"] == row["delta"] == ""
    assert float(row["flagged_mean"]) > 50
    assert [r for (r, _), e in table.entries.items() if e.best] == ["bert"]
    assert [(c.a, c.b) for c in table.comparisons] == [("bert", "lexicon")]
    for render in (render_md, render_tex, render_html):
        text = render(table)
        assert "see below" in text and "Not comparable" in text and "oracle" in text


def test_a_remark_leaves_the_value_comparable(cells: list[dict[str, Any]]) -> None:
    cell(cells, "instructionner")["flags"] = ["empty-episodes:3"]
    table = build("toy", spec(), cells, BLOCKED)
    assert table.entries["inst", "toy"].best
    assert rows_of(render_csv(table))["inst", "toy"]["flags"] == "empty-episodes:3"
    assert "nothing found (3)." in render_md(table)


def test_notes_of_method_and_row_become_footnotes(cells: list[dict[str, Any]]) -> None:
    table = build("toy", spec(), cells, notes={"lexicon": "A floor.", "lc-bert": None})
    texts = dict(table.footnotes)
    assert [texts[m] for m in table.marks["lexicon"]] == ["A floor."]
    assert [texts[m] for m in table.marks["bert"]] == ["Large."]
    assert "inst" not in table.marks


def test_a_column_may_have_a_metric_of_its_own(cells: list[dict[str, Any]]) -> None:
    twice = [
        {"id": "toy", "title": "2-shot", "group": "Toy", "dataset": "toy", "setting": "2-shot"},
        {"id": "strings", "title": "strings", "dataset": "toy", "setting": "2-shot", "metric": "uniner"},
    ]
    cell(cells, "lc-bert")["metrics"]["peer.uniner.f1"] = {"mean": 12.5, "sd": 1.0, "n": 2, "low": None, "high": None}
    table = build("toy", spec(columns=twice, printed=None), cells)
    rows = rows_of(render_csv(table))
    assert (rows["bert", "strings"]["mean"], rows["bert", "strings"]["metric"]) == ("12.5", "peer.uniner.f1")
    assert rows["bert", "toy"]["metric"] == "strict.f1"
    said = dict(table.lines)["Scorer"]
    assert "strict entity micro-F1" in said and "; in strings: UniversalNER's released scorer" in said
    assert "no peer" not in said and "no peer" in dict(build("toy", spec(), cells).lines)["Scorer"]
    whole = build("toy", spec(columns=twice[:1], printed=None, metric="uniner", compare=[]), cells)
    assert rows_of(render_csv(whole))["bert", "toy"]["mean"] == "12.5"
    with pytest.raises(ValidationError, match="counts strings"):
        spec(metric="uniner")


def test_the_line_under_the_table_says_how(cells: list[dict[str, Any]]) -> None:
    by_key = {f"toy/2-shot/{c['method']}/{c['backbone']}": c for c in cells}
    said = dict(lines(spec(), by_key))
    assert "fewtable/4, strict entity micro-F1" in said["Scorer"]
    assert said["Checkpoint"].startswith("not trained on the sample: Lexicon; last step")
    sample = said["Sample, Toy, 2-shot"]
    for part in ("“exact”", "k = 2", "2 draws", "5 support sentences", "3 types", cells[0]["data"]["test"][:12]):
        assert part in sample
    assert "n = 2 draws" in said["Spread"] and "sample standard deviation" in said["Spread"]
    assert "A paper, Table 1" in said["Printed"]


def test_the_line_of_an_episodic_column(cells: list[dict[str, Any]]) -> None:
    found = cell(cells, "lexicon")
    found["spec"]["sampler"] = {"rule": "mini-including"}
    for header in found["samples"].values():
        header["unit"] = "sentences with the tag"
    by_key = {f"toy/2-shot/{found['method']}/{found['backbone']}": found}
    text = dict(lines(spec(), by_key))["Sample, Toy, 2-shot"]
    assert "sentences with the tag (" in text or "sentences with the tag;" in text
    assert "asked sentences of test that each episode draws" in text


def test_the_line_tells_the_query_sentences_that_a_pooled_support_holds(cells: list[dict[str, Any]]) -> None:
    found = cell(cells, "lexicon")
    assert "among them" not in sample_text(found)
    for header in found["samples"].values():
        header["in_support"] = 7112
    assert sample_text(found).endswith(", 7112 of the query sentences among them")


def test_episodes_have_a_spread_line_of_their_own(cells: list[dict[str, Any]]) -> None:
    by_key = {f"toy/2-shot/{c['method']}/{c['backbone']}": c for c in cells}
    cell(cells, "lexicon")["flags"] = ["episodes"]
    both = dict(lines(spec(), by_key))["Spread"]
    assert both.startswith("mean ±") and "Episodes: F1 of the counts summed over n = 2 episodes" in both
    for c in cells:
        c["flags"] = ["episodes", "empty-episodes:1"]
    alone = dict(lines(spec(), by_key))["Spread"]
    assert alone.startswith("F1 of the counts summed")
    assert "±" not in alone and "interval over episodes" in alone


@pytest.mark.parametrize(
    ("train", "trained"),
    [
        ({}, False),
        ({"epochs": 0}, False),
        ({"epochs": 0, "min_steps": 200}, True),
        ({"epochs": 10}, True),
        ({"head": "prototype", "adapt": None}, False),
        ({"head": "prototype", "adapt": {"epochs": 1, "episodes": 80000}}, True),
        ({"head": "prototype", "adapt": {"epochs": 0, "episodes": 80000}}, False),
    ],
)
def test_a_run_is_trained_where_its_budget_has_steps(train: dict[str, Any], trained: bool) -> None:
    assert (checkpoint_choice({"train": train}) != "not trained on the sample") is trained


def test_a_zero_shot_cell_names_the_run_whose_model_it_took() -> None:
    spec = {"train": {"epochs": 3}, "init": "d/full/source/b", "sampler": {"rule": "none"}}
    assert checkpoint_choice(spec) == "not trained on the sample, the model of d/full/source/b as it is"
    assert checkpoint_choice({**spec, "sampler": {"rule": "all"}}).startswith("last step of a fixed budget")


def test_rows_on_different_samples_or_data_are_called_out(cells: list[dict[str, Any]]) -> None:
    odd = cell(cells, "lexicon")
    odd["samples"] = {"1": odd["samples"]["1"]}
    odd["data"] = {**odd["data"], "test": "f" * 64}
    for header in odd["samples"].values():
        header["data_sha256"]["test"] = "f" * 64
    text = dict(build("toy", spec(), cells).lines)["Sample, Toy, 2-shot"]
    assert "did not read the same samples" in text and "read different data" in text


def test_a_fixed_part_of_the_query_is_said(cells: list[dict[str, Any]]) -> None:
    for c in cells:
        c["spec"]["query"]["limit"] = 300
    assert "300 fixed sentences of test" in dict(build("toy", spec(), cells).lines)["Sample, Toy, 2-shot"]


def test_a_cap_of_pairs_is_one_of_whole_sentences(cells: list[dict[str, Any]]) -> None:
    for c in cells:
        c["spec"]["query"]["pairs"] = 200_000
    text = dict(build("toy", spec(), cells).lines)["Sample, Toy, 2-shot"]
    assert "the test split, or whole sentences drawn from it for 200,000 pairs of a sentence and a type" in text


def test_sample_text_counts_slack() -> None:
    headers = {
        "1": {"rule": "exact", "k": 2, "counts": {"a": 2, "b": 4}, "over": {"b": 2}, "short": {}, "sentences": 3}
    }
    assert sample_text({"samples": headers}).endswith("2–4 mentions a type (2 too many in all)")
    assert data_text({"samples": {}, "data": {}}) == "unknown"


def test_pairs_are_tested_with_holm(cells: list[dict[str, Any]], results: Path) -> None:
    table = build("toy", spec(), cells, BLOCKED, results=results)
    assert [(c.a, c.b, c.column) for c in table.comparisons] == [("inst", "bert", "toy"), ("bert", "lexicon", "toy")]
    first = table.comparisons[0]
    means = [cell(cells, m)["metrics"]["strict.f1"]["mean"] for m in ("instructionner", "lc-bert")]
    assert first.difference == pytest.approx(means[0] - means[1])
    least = min(table.comparisons, key=lambda c: c.p)
    assert least.p_holm == pytest.approx(2 * least.p)
    assert "Differences" in render_md(table) and "Differences" in render_html(table)


def test_without_scores_no_pair_is_tested(cells: list[dict[str, Any]], tmp_path: Path) -> None:
    assert build("toy", spec(), cells, BLOCKED, results=tmp_path).comparisons == ()


def test_texts_are_escaped_in_every_form(cells: list[dict[str, Any]]) -> None:
    rows = [{"id": "lexicon", "title": ODD, "method": "lexicon", "backbone": "none", "note": ODD}]
    table = build("toy", spec(title=ODD, caption=ODD, rows=rows, compare=[], printed=None), cells)
    assert "<b>" not in render_html(table)
    md = render_md(table)
    assert "<b>" not in md and r"\|" in md
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in md.splitlines() if line.startswith("|")}) == 1
    assert rows_of(render_csv(table))["lexicon", "toy"]["row_title"] == ODD


@given(st.text(alphabet='ab\\{}&%$#_~^<>|"\n '))
def test_latex_escape_leaves_no_bare_special(text: str) -> None:
    out = re.sub(r"\\(text[a-z]+\{\}|[{}&%$#_])", "", escape(text))
    assert not set(out) & set('\\{}&%$#_~^<>|"\n')


def test_latex_is_well_formed(cells: list[dict[str, Any]], results: Path) -> None:
    rows = [
        *spec().rows[:2],
        {"id": "odd", "title": ODD, "method": "instructionner", "backbone": "smollm2"},
    ]
    table = build("toy", spec(rows=rows, compare=[["odd", "bert"]]), cells, BLOCKED, results=results)
    text = render_tex(table)
    bare = re.sub(r"\\[{}&%$#_\\]", "", text.partition("\n")[2])
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0 and bare.count("$") % 2 == 0 and "%" not in bare
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    lines_ = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert lines_ and {len(re.findall(r"(?<!\\)&", line)) for line in lines_} == {2}
    assert text.count(r"\begin{") == text.count(r"\end{")


class Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_balanced_and_stands_alone(cells: list[dict[str, Any]], results: Path) -> None:
    cell(cells, "instructionner")["flags"] = ["leak"]
    text = render_html(build("toy", spec(), cells, BLOCKED, results=results))
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    assert "http" not in text
    for mark in set(re.findall(r'href="#(note-[^"]+)"', text)):
        assert f'id="{mark}"' in text
    assert 'scope="row"' in text and 'scope="col"' in text


def test_number_has_a_true_minus() -> None:
    assert number(-1.25, sign=True) == "−1.2"
    assert number(1.25, sign=True) == "+1.2"
    assert number(None) == ""


def test_config_tables_name_only_their_own_rows_and_columns(root: Path) -> None:
    registry = Registry(root / "config")
    assert {"demo", "table1"} <= set(registry.names("tables"))
    for name in registry.names("tables"):
        check_names(registry.table(name))


def check_names(table: TableSpec) -> None:
    rows, columns = {r.id for r in table.rows}, {c.id for c in table.shown}
    assert len(rows) == len(table.rows) and len(columns) == len(table.shown)
    assert {row for pair in table.compare for row in pair} <= rows
    printed = table.printed
    for row, values in [*printed.values.items(), *printed.gains.items()] if printed else []:
        assert row in rows and set(values) <= columns


def test_table1_holds_the_papers_values(root: Path) -> None:
    printed = Registry(root / "config").table("table1").printed
    assert printed is not None
    assert printed.values["instructionner"]["mit-movie-10"] == (64.4, 2.1)
    assert printed.values["instructionner"]["conll2003-50"] == (76.3, 1.0)
    assert printed.values["lc-bert"]["atis-50"] == (90.7, None)
    assert printed.values["instructionner-v1.1"]["conll2003-20"] == (70.8, 1.5)
    assert "Table 1" in printed.source and "Table 2" in printed.source


def test_the_script_writes_four_files(root: Path, results: Path, tmp_path: Path) -> None:
    params = {"name": "toy", "table": spec().model_dump(mode="json"), "blocked": BLOCKED, "notes": {}}
    command = [sys.executable, str(root / "workflow" / "scripts" / "table.py")]
    command += ["--spec", json.dumps(params), "--results", str(results), "--output", str(tmp_path / "toy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "table toy: 3 of 6 cells" in done.stdout + done.stderr
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".csv", ".html", ".md", ".tex"]
