"""Every sentence of every corpus comes back from InstructionNER's format, but for what it cannot express."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from fewtable.corpus import Entity, Sentence
from fewtable.registry import Registry


@pytest.fixture(scope="module")
def round_trip(root: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location("round_trip", root / "benchmarks" / "round_trip.py")
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("words", "entities", "paper", "robust"),
    [
        ("a b", [(0, 1, "x"), (1, 2, "y")], None, None),
        ("a a", [(0, 1, "x")], None, None),
        ("a a", [(1, 2, "x")], "an earlier occurrence of a surface is no entity", "the same"),
        ("a , b", [(0, 3, "x")], "a comma in a surface", None),
        ("a b", [(0, 1, "x"), (0, 1, "y")], "two types on one span", "the same"),
    ],
)
def test_the_causes(round_trip: ModuleType, words: str, entities: list, paper: str | None, robust: str | None) -> None:
    sentence = Sentence("test-000000", tuple(words.split()), tuple(Entity(*e) for e in entities))
    assert round_trip.cause(sentence, "paper") == paper
    assert round_trip.cause(sentence, "robust") == (paper if robust == "the same" else robust)


@pytest.mark.shared
@pytest.mark.slow
def test_every_real_sentence_comes_back(root: Path, mirror: Path, round_trip: ModuleType) -> None:
    causes, names, sentences = Counter(), set(), 0
    for place, types, found in round_trip.corpora(Registry(root / "config"), mirror):
        names.add(place.partition("/")[0])
        sentences += len(found)
        for mode in round_trip.MODES:
            for sentence in round_trip.lost(found, types, mode, "words"):
                why = round_trip.cause(sentence, mode)
                assert why, (place, mode, sentence)
                causes[why, mode] += 1
    assert len(names) > 20
    assert not causes["a comma in a surface", "robust"]
    assert causes.total() < 0.05 * 2 * sentences


def test_without_corpora_the_benchmark_is_skipped(
    round_trip: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(round_trip, "ROOT", tmp_path / "project")
    monkeypatch.setattr("sys.argv", ["round_trip.py"])
    assert round_trip.main() == 0
    assert capsys.readouterr().out.startswith("skipped: the folder ")
