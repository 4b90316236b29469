"""A view's numbers as CSV and as a picture; what is missing says why."""

from __future__ import annotations

import csv
import io
from typing import Any
from xml.etree import ElementTree

import pytest
from pydantic import ValidationError

from fewtable.views.drawing import draw
from fewtable.views.shown import View, from_params, render_csv, shares
from fewtable.views.spec import ViewSpec

SIDES = {"before": {"title": "SFT", "method": "sft"}, "after": {"title": "SFT + contrast", "method": "both"}}
ASKED = {"type": "PER", "sentence": ["said", "Nahed", "Dahlan"], "entities": ["Nahed Dahlan"]}
SVG = "{http://www.w3.org/2000/svg}"
BLOCKED = {"news/after": "licence: ask for it"}


def spec(**changes: Any) -> dict[str, Any]:
    base = {"title": "View", "datasets": ["news"], "setting": "5-shot", "backbone": "tiny", **SIDES}
    return ViewSpec.model_validate(base | changes).model_dump(mode="json")


def side(*rows: list[float]) -> dict[str, Any]:
    elsewhere = [1 - sum(row) for row in rows]
    return {
        "layer": 3,
        "written": [" Nahed", "\n"],
        "attention": rows,
        "elsewhere": elsewhere,
        "cosines": [0.1, -0.5, 1.0],
    }


def attention(blocked: Any = None) -> View:
    numbers = {
        "type": "PER", "words": ["said", "Nahed", "Dahlan"], "entities": [[1, 3]],
        "before": side([0.1, 0.2, 0.3], [0.0, 0.1, 0.0]), "after": side([0.0, 0.3, 0.4], [0.1, 0.1, 0.1]),
    }  # fmt: skip
    params = {"name": "toy", "spec": spec(attention=ASKED), "datasets": {"news": "News"}, "types": {"news": {}}}
    return from_params(params | {"blocked": blocked or {}}, {} if blocked else {"news": numbers})


def space(**more: Any) -> View:
    entities = [["test-000000", n, n + 1, "AB"[n % 2], f"e{n}"] for n in range(6)]
    own = {"layer": 3, "points": [[float(n), n * n / 7] for n in range(6)]}
    scores = {"hidden": 0.25, "keys": None, "points": -0.125}
    numbers = {"entities": entities, **{name: {**own, "silhouette": scores} for name in SIDES}}
    params = {
        "name": "toy", "spec": spec(space={}, datasets=["news", "wiki"]), "datasets": {"news": "News", "wiki": "Wiki"},
        "types": {"news": {"A": "animal", "B": "boat"}, "wiki": {}}, "blocked": {"wiki/before": "data: not here"},
    }  # fmt: skip
    return from_params(params | more, {"news": numbers})


def rows(view: View, what: str) -> list[dict[str, str]]:
    return [row for row in csv.DictReader(io.StringIO(render_csv(view))) if row["what"] == what]


def test_the_csv_holds_every_number_of_the_attention() -> None:
    view = attention()
    found = {(r["side"], r["written"], r["word"]): r for r in rows(view, "attention")}
    assert len(found) == 12 and found["after", " Nahed", "Dahlan"]["value"] == "0.4"
    assert (found["after", "\n", "said"]["gold"], found["after", "\n", "Nahed"]["gold"]) == ("0", "1")
    assert [r["value"] for r in rows(view, "elsewhere")] == ["0.4", "0.9", "0.3", "0.7"]
    assert [r["value"] for r in rows(view, "cosine")] == ["0.1", "-0.5", "1"] * 2
    assert shares(view.numbers["news"], "before") == pytest.approx((0.3, 0.35))
    assert [r["value"] for r in rows(view, "share.entity")] == ["0.3", "0.45"]
    assert {(r["method"], r["layer"]) for r in rows(view, "cosine")} == {("sft", "3"), ("both", "3")}


def test_the_csv_holds_every_point_and_silhouette_and_what_is_missing() -> None:
    view = space()
    points = rows(view, "entity")
    assert len(points) == 12 and (points[3]["text"], points[3]["type"], points[3]["x"]) == ("e3", "B", "3")
    assert [r["value"] for r in rows(view, "silhouette.hidden")] == ["0.25", "0.25"]
    assert [r["value"] for r in rows(view, "silhouette.keys")] == ["", ""]
    assert [(r["dataset"], r["why"]) for r in rows(view, "missing")] == [("wiki", "data: not here")]


def elements(view: View) -> dict[str, ElementTree.Element]:
    root = ElementTree.fromstring(draw(view, "svg"))
    return {found.attrib["id"]: found for found in root.iter() if "id" in found.attrib}


def test_both_sides_are_drawn() -> None:
    found = elements(attention())
    assert {f"{name}.{what}" for name in SIDES for what in ("attention", "cosine")} <= set(found)
    assert len(list(found["before.attention"].iter(f"{SVG}path"))) == 6
    found = elements(space())
    for name in SIDES:
        for kind in "AB":
            assert len(list(found[f"news.{name}.{kind}"].iter(f"{SVG}use"))) == 3


@pytest.mark.parametrize("make", [attention, space])
def test_the_same_numbers_give_the_same_bytes(make: Any) -> None:
    for form in ("svg", "png"):
        assert draw(make(), form) == draw(make(), form)  # type: ignore[arg-type]


def test_a_view_that_cannot_be_made_is_drawn_with_its_reason() -> None:
    view = attention(BLOCKED)
    assert [r["why"] for r in rows(view, "missing")] == ["licence: ask for it"]
    assert draw(view, "svg") != draw(attention({"news/after": "another"}), "svg")


def test_a_view_is_of_one_kind_and_its_entities_stand_in_its_sentence() -> None:
    with pytest.raises(ValidationError, match="a view has 'attention' or 'space'"):
        spec()
    with pytest.raises(ValidationError, match="name one dataset"):
        spec(attention=ASKED, datasets=["news", "wiki"])
    with pytest.raises(ValidationError, match="'Dahlan Nahed' does not stand in the sentence"):
        spec(attention={**ASKED, "entities": ["Dahlan Nahed"]})
    with pytest.raises(ValidationError, match="a dataset is named twice"):
        spec(space={}, datasets=["news", "news"])
