"""Counts of splits, and the texts of ``fewtable data list`` and ``stats``."""

from __future__ import annotations

from pathlib import Path

from fewtable.corpus import Entity, Sentence
from fewtable.data.stats import SplitStats, list_datasets, render_list, render_stats, split_stats
from fewtable.registry import Registry
from fewtable.specs import UserConfig

SENTENCES = [
    Sentence("t-0", ("a", "b", "c"), (Entity(0, 2, "X"), Entity(1, 2, "Y"), Entity(2, 3, "X"))),
    Sentence("t-1", ("d",)),
]
STATS = SplitStats("train", 2, 4, 3, 1, 2, {"Y": 1, "X": 2, "Z": 0})


def test_split_stats() -> None:
    assert split_stats("train", SENTENCES, ["Y", "X", "Z"]) == STATS
    assert STATS.as_dict()["types"] == {"Y": 1, "X": 2, "Z": 0}


def test_entities_side_by_side_are_not_nested() -> None:
    sentence = Sentence("t-0", ("a", "b", "c"), (Entity(0, 1, "X"), Entity(1, 3, "X")))
    assert split_stats("t", [sentence], ["X"]).nested == 0


def test_render_stats() -> None:
    other = SplitStats("test", 1200, 4, 0, 1, 0, {"Y": 0, "X": 0, "Z": 0})
    assert render_stats("d", "Title", [STATS, other]).split("\n") == [
        "d: Title",
        "                 train   test",
        "sentences            2  1,200",
        "tokens               4      4",
        "entities             3      0",
        "without entity       1      1",
        "nested entities      2      0",
        "  Y                  1      0",
        "  X                  2      0",
        "  Z                  0      0",
    ]


YAML = """
title: T
domain: news
licence: a licence whose name is far too long to be printed in one column
reader: jsonl
files: {a.jsonl: {}, b.jsonl: {}}
splits: {train: {files: [a.jsonl]}, test: {files: [b.jsonl]}}
types: {X: {words: x, definition: d}}
"""


def test_list(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "one.yaml").write_text(YAML)
    (tmp_path / "datasets" / "two.yaml").write_text(YAML + "access: licensed\nobtain: Ask.\n")
    (tmp_path / "raw" / "one").mkdir(parents=True)
    (tmp_path / "raw" / "one" / "a.jsonl").touch()
    listed = list_datasets(Registry(tmp_path), UserConfig(), tmp_path / "raw")
    assert [(x.dataset, x.types, x.fetched, x.files, x.access) for x in listed] == [
        ("one", 1, 1, 2, "open"),
        ("two", 1, 0, 2, "licensed (no folder set)"),
    ]
    head, one, two = render_list(listed).split("\n")
    assert head.split() == ["dataset", "domain", "types", "fetched", "splits", "access", "licence"]
    assert "1/2" in one and one.endswith("…") and "train test" in two
    [_, licensed] = list_datasets(Registry(tmp_path), UserConfig(licensed={"two": "~/two"}), tmp_path)
    assert licensed.access == "licensed: ~/two"
