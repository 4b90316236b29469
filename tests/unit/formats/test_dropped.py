"""What any format drops of any output can be written to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewtable.corpus import EntityType
from fewtable.files import write_jsonl
from fewtable.formats.base import Dropped
from fewtable.registry import find_module, modules

NAMES = [n for n in modules("formats") if hasattr(find_module("formats", n, ""), "FORMAT")]
HALF = "\ud83d"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "output",
    [
        float("nan"), [float("inf")], [[0, 1, float("nan")]], {"per": float("nan")}, HALF, [HALF], [[0, 1, HALF]],
        f"{HALF} is a per.", f"b is a {HALF}.", f"per: {HALF}", f"{HALF}: b", f"Entity: Per: {HALF} | {HALF}: b",
    ],
)  # fmt: skip
def test_what_was_dropped_can_be_written(name: str, output: Any, tmp_path: Path) -> None:
    found = find_module("formats", name, "").FORMAT
    form = found([EntityType("per", "per", "a person")], found.Options())
    dropped = form.parse(("b", "c"), output).dropped
    assert dropped
    write_jsonl(tmp_path / "dropped.jsonl", [[d.cause, d.text, d.type] for d in dropped])


def test_half_a_surrogate_pair_is_replaced_and_a_whole_one_is_joined() -> None:
    assert Dropped("unmatched", f"a{HALF}b").text == "a\N{REPLACEMENT CHARACTER}b"
    assert Dropped("unmatched", f"{HALF}\ude00").text == "😀"
