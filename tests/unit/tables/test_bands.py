"""Entity types by frequency band."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from fewtable.corpus import Entity, Sentence, write_sentences
from fewtable.errors import ConfigError
from fewtable.layouts import BandsSpec
from fewtable.registry import Registry, validate
from fewtable.tables.bands import bands, from_params, render_csv, render_md


def sentences(counts: dict[str, int]) -> list[Sentence]:
    return [
        Sentence(f"passage-{i:06d}", ("a",), (Entity(0, 1, name),))
        for i, name in enumerate(name for name, count in counts.items() for _ in range(count))
    ]


def test_the_bands_of_two_hundred_types() -> None:
    counts = {"person": 300, "place": 200} | {f"b{i:02d}": 10 for i in range(18)} | {f"c{i:03d}": 1 for i in range(180)}
    top, middle, rest = bands(sentences(counts))
    assert top.types == ("person", "place")
    assert middle.types == tuple(f"b{i:02d}" for i in range(18))
    assert len(rest.types) == 180
    assert [band.share for band in (top, middle, rest)] == pytest.approx([50000 / 860, 18000 / 860, 18000 / 860])


def test_few_types_and_none() -> None:
    assert [band.types for band in bands(sentences({"a": 1, "b": 2}))] == [("b",), (), ("a",)]
    assert [(band.types, band.share) for band in bands([])] == [((), 0.0)] * 3


def test_the_papers_table(root: Path, tmp_path: Path) -> None:
    spec = Registry(root / "config").bands("universalner/table1")
    write_sentences(
        tmp_path / "annotations" / spec.teacher / spec.corpus / "annotations.jsonl", sentences({"person": 3, "a|b": 1})
    )
    made = from_params({"name": "x", "bands": spec.model_dump(mode="json")}, tmp_path)
    rows = list(csv.DictReader(io.StringIO(render_csv(*made))))
    assert [(row["band"], row["share"], row["printed"], row["delta"]) for row in rows] == [
        ("top-1", "75", "74", "1"),
        ("1-10", "0", "19", "-19"),
        ("10-100", "25", "7", "18"),
    ]
    assert rows[0]["printed_examples"].startswith("person; organization; location; date")
    text = render_md(*made)
    assert "| Top 1 % | 1 | 75.0 % \\[74 %\\] | person | person, organization," in text
    assert "a\\|b" in text


def test_printed_values_are_of_the_bands() -> None:
    printed = {"source": "P", "share": {"top-1": 74}, "types": {}}
    with pytest.raises(ConfigError, match="printed values are of the bands top-1, 1-10, 10-100"):
        validate(BandsSpec, {"title": "T", "teacher": "t", "corpus": "c", "printed": printed}, "t.yaml")
