"""Cases are picked by their rule, counted both ways, shown in three forms; what is missing says why."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from fewtable.corpus import Entity, Sample, Sentence, write_samples, write_sentences
from fewtable.errors import DataError
from fewtable.files import write_jsonl
from fewtable.views.cases import Cases, Instance, from_params, outcome, pick
from fewtable.views.cases_forms import render_csv, render_html, render_md
from fewtable.views.spec import CasesSpec

WORDS = ("a", "classic", "saab", "900", "|", "runs")
GOLD = Entity(2, 4, "product")
WIDE = Entity(0, 4, "product")
TITLES = {"social": "Social & <co>"}
TYPES = {"social": {"product": "product"}}


def spec(**changes: Any) -> CasesSpec:
    sides = {"before": {"title": "SFT", "method": "sft"}, "after": {"title": "Full", "method": "full"}}
    base = {"title": "Cases", "datasets": ["social"], "setting": "5-shot", "backbone": "tiny", **sides}
    return CasesSpec.model_validate(base | changes)


def instance(number: int, before: Any, after: Any, draw: int = 1, gold: Any = (GOLD,)) -> Instance:
    sentence = Sentence(f"test-{number:06d}", WORDS, tuple(gold))
    return Instance("social", draw, sentence, tuple(before), tuple(after))


def rows(cases: Cases, what: str) -> list[dict[str, str]]:
    return [row for row in csv.DictReader(io.StringIO(render_csv(cases))) if row["what"] == what]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([GOLD], "right"),
        ([], "missed"),
        ([WIDE], "boundary"),
        ([GOLD, WIDE], "boundary"),
        ([Entity(3, 5, "product")], "boundary"),
        ([Entity(0, 4, "group")], "missed"),
        ([Entity(4, 6, "product")], "missed"),
    ],
)
def test_how_a_gold_entity_fares(answers: list[Entity], expected: str) -> None:
    assert outcome(GOLD, answers, [GOLD]) == expected


def test_another_gold_entity_inside_is_no_wrong_answer() -> None:
    inner = Entity(3, 4, "product")
    assert outcome(GOLD, [GOLD, inner], [GOLD, inner]) == "right"
    assert outcome(GOLD, [GOLD, inner], [GOLD]) == "boundary"


def test_a_case_is_wrong_before_and_right_after_and_the_reverse_is_counted() -> None:
    cases = pick(
        spec(),
        [
            instance(1, [WIDE], [GOLD]),
            instance(2, [GOLD], [WIDE]),
            instance(3, [WIDE], [WIDE]),
            instance(4, [], [GOLD]),
            instance(5, [WIDE], [GOLD, WIDE]),
        ],
    )
    assert [case.instance.sentence.id for case in cases.found] == ["test-000001"]
    assert cases.counts["social"]["boundary", "right"] == cases.counts["social"]["right", "boundary"] == 1
    assert cases.counts["social"]["boundary", "boundary"] == 2 and cases.counts["social"]["missed", "right"] == 1
    (row,) = rows(cases, "case")
    assert (row["gold"], row["before"], row["after"]) == ("saab 900", "a classic saab 900", "saab 900")
    assert {(r["outcome_before"], r["outcome_after"]): r["count"] for r in rows(cases, "count")} == {
        ("right", "boundary"): "1",
        ("boundary", "right"): "1",
        ("boundary", "boundary"): "2",
        ("missed", "right"): "1",
    }


def test_the_order_is_random_but_the_same_and_a_sentence_of_several_draws_is_shown_once() -> None:
    made = [instance(n, [WIDE], [GOLD], draw) for n in range(20) for draw in (1, 2)]
    one, other = pick(spec(shown=6), made), pick(spec(shown=6), made[::-1])
    names = [case.instance.sentence.id for case in one.found]
    assert names == [case.instance.sentence.id for case in other.found]
    assert len(set(names)) == 6 and names != sorted(names)
    assert one.counts["social"].total() == 40
    assert len(pick(spec(shown=40), made).found) == 20
    sampled = pick(spec(instances=7), made)
    assert sampled.instances["social"] == sampled.counts["social"].total() == 7


def test_markdown_and_html_show_the_case_and_escape_what_is_data() -> None:
    cases = pick(spec(), [instance(1, [WIDE], [GOLD])])
    text = render_md(cases, TITLES, TYPES)
    assert "| a classic **saab 900** \\| runs | product | saab 900 | a classic saab 900 | saab 900 |" in text
    assert "1 have a boundary error in SFT and are right in Full; 0 are right in SFT" in text
    html = render_html(cases, TITLES, TYPES)
    assert "a classic <mark>saab 900</mark> | runs" in html and "Social &amp; &lt;co&gt;" in html
    assert "There is no such case." in render_md(pick(spec(), []), TITLES, TYPES)
    assert "There is no such case." in render_html(pick(spec(), []), TITLES, TYPES)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    sentences = [Sentence(f"test-{n:06d}", WORDS, (GOLD,)) for n in range(3)]
    write_sentences(tmp_path / "data/social/test.jsonl", sentences)
    ids = tuple(s.id for s in sentences)
    write_samples(tmp_path / "samples/social/5-shot/1-1.jsonl", [Sample(1, ("product",), (), ids)])
    for method, entity in (("sft", WIDE), ("full", GOLD)):
        lines = [{"draw": 1, "id": i, "entities": [list(entity)], "dropped": []} for i in ids]
        write_jsonl(tmp_path / f"runs/social/5-shot/{method}/tiny/1-1/predictions.test.jsonl", lines)
    return tmp_path


def params(**changes: Any) -> dict[str, Any]:
    made = spec(**changes).model_dump(mode="json")
    return {"name": "toy", "spec": made, "blocks": ["1-1"], "query": "test", "blocked": {}}


def test_cases_are_read_from_the_results_and_a_blocked_dataset_says_why(results: Path) -> None:
    assert len(from_params(params(), results).found) == 3
    blocked = {"wiki/after": "licence: ask for it"}
    cases = from_params(params(datasets=["social", "wiki"]) | {"blocked": blocked}, results)
    assert len(cases.found) == 3 and [r["why"] for r in rows(cases, "missing")] == ["licence: ask for it"]
    titles = {**TITLES, "wiki": "Wiki"}
    assert "**Wiki.** licence: ask for it" in render_md(cases, titles, TYPES)
    assert "licence: ask for it" in render_html(cases, titles, TYPES)


def test_predictions_that_lack_a_sentence_are_an_error(results: Path) -> None:
    path = results / "runs/social/5-shot/full/tiny/1-1/predictions.test.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(DataError, match="no prediction of test-000002, draw 1"):
        from_params(params(), results)
