from __future__ import annotations

from pathlib import Path

import pytest

from fewtable.corpus import Entity, Sentence
from fewtable.errors import DataError
from fewtable.files import read_json, write_json
from fewtable.formats.base import Parsed
from fewtable.tracking.pictures import MISSED, SPURIOUS, confusion, draw_confusion, write_artifacts
from fewtable.tracking.record import MAX_CHILDREN, Point, curve, name, params, read_record
from fewtable.tracking.store import mask

KEY = "toy/2-shot/lc-bert/minilm"


def test_a_record_has_the_cells_figures_and_the_draws_curves(results: Path) -> None:
    cell = read_json(results / "cells" / f"{KEY}.json")
    record = read_record(results, KEY, {"tables": "demo", "paper": "instructionner"})
    values = {p.name: p.value for p in record.parent.metrics}
    assert values["strict.f1"] == cell["metrics"]["strict.f1"]["mean"]
    assert values["strict.f1.sd"] == cell["metrics"]["strict.f1"]["sd"]
    assert values["type/person/recall"] == cell["per_type"]["person"]["recall"]
    assert values["dropped/unmatched"] == cell["dropped"]["unmatched"]
    assert record.parent.tags["tables"] == "demo"
    assert record.parent.tags["mlflow.runName"] == "lc-bert · minilm · toy 2-shot"
    assert record.parent.params["train.lr"] == "0.0001"
    child = record.children[2]
    assert [p for p in child.metrics if p.name == "strict.f1"] == [
        Point("strict.f1", cell["per_draw"]["2"]["strict.f1"])
    ]
    assert [p.step for p in child.metrics if p.name == "train/loss"] == list(range(1, 21))
    assert child.params["sample.seed"] == str(cell["samples"]["2"]["seed"])
    assert record.data == cell["data"]


def test_the_digest_follows_the_content_alone(results: Path) -> None:
    before = read_record(results, KEY, {}).digest
    path = results / "cells" / f"{KEY}.json"
    path.write_bytes(path.read_bytes())
    assert read_record(results, KEY, {"tables": "other"}).digest == before
    cell = read_json(path)
    cell["flags"] = ["oracle"]
    write_json(path, cell)
    after = read_record(results, KEY, {})
    assert after.digest != before
    assert after.parent.tags["flags"] == "oracle"


def test_a_cell_of_many_draws_holds_them_as_curves(results: Path) -> None:
    path = results / "cells" / f"{KEY}.json"
    cell = read_json(path)
    draws = list(range(1, MAX_CHILDREN + 6))
    cell["draws"] = draws
    cell["per_draw"] = {str(d): {"strict.f1": float(d), "span.f1": None} for d in draws}
    write_json(path, cell)
    record = read_record(results, KEY, {})
    assert len(record.children) == MAX_CHILDREN
    curve_points = [(p.step, p.value) for p in record.parent.metrics if p.name == "draw/strict.f1"]
    assert curve_points == [(d, float(d)) for d in draws]


def test_names_and_values_are_ones_that_mlflow_takes() -> None:
    assert name("loss@1 (a, b)%") == "loss_1 _a_ b__"
    told = params({"a": {"b": [1, 2], "c": None}, "long": "x" * 7000, "types": {"p": {"words": "person"}, "q": 1}})
    assert told["a.b"] == "[1,2]"
    assert "a.c" not in told
    assert told["types"] == "p, q"
    assert len(told["long"]) == 6000
    assert told["long"].endswith("x…")


def test_an_unfinished_line_of_a_growing_log_waits() -> None:
    text = '{"step": 1, "loss": 2.0, "lr": 0.1}\n{"step": 2, "loss": 1.'
    assert list(curve(text, "log")) == [Point("train/loss", 2.0, 1), Point("train/lr", 0.1, 1)]
    with pytest.raises(DataError) as caught:
        list(curve('{"step": 1, "loss": 2.0}\n{"loss": 1.0}\n', "log"))
    assert caught.value.where == "log:2"


def test_a_malformed_cell_is_named(results: Path) -> None:
    path = results / "cells" / f"{KEY}.json"
    write_json(path, {"dataset": "toy"})
    with pytest.raises(DataError) as caught:
        read_record(results, KEY, {})
    assert caught.value.where == str(path)


def test_confusion_counts_types_misses_and_inventions() -> None:
    gold = (Entity(0, 1, "person"), Entity(2, 4, "place"), Entity(5, 6, "place"))
    said = (Entity(0, 1, "person"), Entity(2, 4, "person"), Entity(5, 7, "place"))
    sentence = Sentence("test-000000", tuple("abcdefgh"), gold)
    assert confusion([(1, sentence, Parsed(said))]) == {
        ("person", "person"): 1,
        ("place", "person"): 1,
        ("place", MISSED): 1,
        (SPURIOUS, "place"): 1,
    }


def test_confusion_with_two_types_on_one_span() -> None:
    gold = (Entity(0, 2, "a"), Entity(0, 2, "b"))
    sentence = Sentence("test-000000", ("x", "y"), gold)
    assert confusion([(1, sentence, Parsed((Entity(0, 2, "b"),)))]) == {("b", "b"): 1, ("a", MISSED): 1}


def test_the_artifacts_show_gold_and_prediction_and_escape(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    write_artifacts(results, KEY, folder)
    table = read_json(folder / "predictions.json")
    assert table["columns"][:3] == ["draw", "id", "sentence"]
    assert len(table["data"]) == 50
    text = (folder / "predictions.html").read_text(encoding="utf-8")
    assert "</script><b>" not in text
    assert "&lt;/script&gt;" in text
    png = (folder / "confusion.png").read_bytes()
    assert png.startswith(b"\x89PNG") and len(png) > 3000


def test_a_picture_of_many_types_puts_the_rarest_together(tmp_path: Path) -> None:
    types = [f"t{i}" for i in range(50)]
    counts = {(kind, kind): i + 1 for i, kind in enumerate(types)} | {("t0", "t1"): 3, (SPURIOUS, "t2"): 4}
    draw_confusion(counts, types, "many", tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_no_password_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-123")
    uri = "https://me:p%40ss@host:5000"
    assert mask(f"cannot reach {uri} (tok-123)", uri) == "cannot reach https://me:***@host:5000 (***)"
    assert mask("postgresql://u:secret@db/x", "sqlite:///a") == "postgresql://u:***@db/x"
