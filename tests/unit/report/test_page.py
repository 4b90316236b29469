from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from fewtable.data.episodes import official_samples
from fewtable.files import read_json, write_json
from fewtable.report import build_report
from fewtable.report.collect import collect
from fewtable.report.page import browser_data, embed
from fewtable.specs import DatasetSpec
from fixtures.results_tree import NASTY

VOID = {"meta", "br", "input", "link", "img"}


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [found["id"]] if found.get("id") else []
        self.links += [found["href"]] if found.get("href") else []
        assert tag not in ("b", "i", "img", "link", "iframe"), "markup from the data, or an external file"
        assert "src" not in found

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> Page:
    parser = Page()
    parser.feed(html)
    assert parser.open == []
    return parser


def test_the_page_is_whole_and_needs_nothing_else(html: str) -> None:
    parser = parsed(html)
    assert len(parser.ids) == len(set(parser.ids))
    assert all(link.startswith("#") and link[1:] in parser.ids for link in parser.links)
    assert "http://" not in html and "https://" not in html and "url(" not in html and "@import" not in html
    assert "default-src 'none'" in html


def test_texts_of_the_data_are_escaped(html: str) -> None:
    assert NASTY not in html
    assert "InstructionNER &lt;i&gt;" in html
    assert html.count("</script>") == 2


def test_the_same_files_give_the_same_bytes(tree: Path, params: dict[str, Any], html: str) -> None:
    assert build_report([params], tree) == html


def test_a_cell_section_shows_its_figures(html: str, tree: Path) -> None:
    cell = read_json(tree / "cells/toy/2-shot/lc-bert/minilm.json")
    text = parsed(html).text
    assert f"{cell['per_draw']['2']['strict.f1']:.2f}" in text
    for name, row in cell["per_type"].items():
        assert re.search(rf"{name}\s*{row['f1']:.1f}", text)
    assert "abc123" in text and "def456" in text
    assert "unmatched: 24" in text
    assert '"sampler"' in text


def test_the_sample_shows_target_and_what_was_reached(html: str, tree: Path) -> None:
    samples = read_json(tree / "cells/toy/2-shot/lc-bert/minilm.json")["samples"]
    table = html.partition("Support mentions reached")[2].partition("</table>")[0]
    for name, reached in samples["2"]["counts"].items():
        row = table.partition(f'<th scope="row">{name}</th>')[2].partition("</tr>")[0]
        cells = [re.sub(r"<[^>]*>", "", c).split() for c in re.findall(r"<td.*?</td>", row, re.S)]
        assert cells[0] == ["2"] and cells[2][0] == str(reached)
        if reached > 2:
            assert cells[2][1:] == [str(reached - 2), "over"]


def test_official_episodes_are_shown_as_drawn_samples_are(tree: Path, params: dict[str, Any], tmp_path: Path) -> None:
    sentence = {"word": [["a", "b", "c"]] * 2, "label": [["location", "O", "location"], ["location", "O", "O"]]}
    episode = {"types": ["location", "person"], "support": sentence, "query": sentence}
    raw = tmp_path / "test_2_1.jsonl"
    raw.write_text(json.dumps(episode) + "\n")
    type_ = {"words": "w", "definition": "d"}
    spec = DatasetSpec.model_validate(
        {
            "title": "T",
            "domain": "wiki",
            "licence": "none",
            "reader": "fewnerd-episodes",
            "files": {raw.name: {}},
            "splits": {"test": {"files": [raw.name]}},
            "types": {"location": type_, "person": type_},
        }
    )
    header = official_samples("d", spec, "test", {raw.name: raw}, data_sha256={"test": "f" * 64})[0].header
    for path in (tree / "cells").rglob("*.json"):
        cell = read_json(path)
        write_json(tmp_path / path.relative_to(tree), cell | {"samples": dict.fromkeys(cell["samples"], header)})
    html = build_report([params], tmp_path)
    table = html.partition("Support mentions reached")[2].partition("</table>")[0]
    rows = [re.sub(r"<[^>]*>", " ", row).split() for row in table.split("</tr>")]
    assert ["location", "1", *["3", "1", "over"] * 2] in rows and ["person", "1", *["0", "1", "short"] * 2] in rows
    assert ["Seed", *["not", "ours"] * 2] in rows
    assert "2 missing and 2 too many in all" in parsed(html).text and "test ffffffffffff" in parsed(html).text


def test_kinds_of_error_agree_with_the_scores(tree: Path, params: dict[str, Any]) -> None:
    for view in collect([params], tree).cells:
        assert view.answers is not None
        counts, types = view.answers.counts, view.cell["per_type"].values()
        assert counts["correct"] == sum(row["tp"] for row in types)
        assert counts["type"] + counts["boundary"] + counts["spurious"] == sum(row["fp"] for row in types)
        assert counts["dropped"] == sum(view.cell["dropped"].values())
        assert view.answers.asked == 240


def test_the_browser_holds_the_same_sentences_for_every_method(tree: Path, params: dict[str, Any]) -> None:
    data = browser_data(collect([params], tree))
    held = [{draw: [row[0] for row in rows] for draw, rows in cell["draws"].items()} for cell in data["cells"]]
    assert held[0] == held[1] == held[2]
    assert [len(ids) for ids in held[0].values()] == [100, 100]
    assert set(held[0]["1"]) == set(data["sentences"]["toy"])


def test_embedded_json_cannot_end_its_script_and_reads_back() -> None:
    value = {"text": "</script><!-- & \u2028 ü"}
    assert not set(embed(value)) & set("<>&\u2028")
    assert json.loads(embed(value)) == value


def test_differences_stand_in_the_report(html: str) -> None:
    assert "Which differences hold" in html and "LC-BERT − Lexicon" in html


def test_runs_that_are_not_there_leave_their_cells(tree: Path, params: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(tree / "cells", tmp_path / "cells")
    text = parsed(build_report([params], tmp_path)).text
    assert "The predictions are not in the results folder" in text
    assert "No train log" in text


def test_no_cell_at_all(params: dict[str, Any], tmp_path: Path) -> None:
    text = parsed(build_report([params], tmp_path)).text
    assert "No cell has been run yet." in text and "licence" in text


def test_the_script_writes_the_page(root: Path, tree: Path, params: dict[str, Any], html: str, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    tables = json.dumps({"tables": {"toy": json.dumps(params)}})
    command = [sys.executable, str(root / "workflow" / "scripts" / "report.py"), "--spec", tables]
    subprocess.run([*command, "--results", str(tree), "--output", str(output)], check=True, capture_output=True)
    assert output.read_text(encoding="utf-8") == html
