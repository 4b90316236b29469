"""A small corpus and an endpoint teacher for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fewtable.teachers.annotate import Places
from fewtable.teachers.spec import TeacherSpec

NAMES = ("Ann", "Berlin", "Carol", "Delft", "Erik")


def passage(number: int) -> str:
    return f"sentence {number} says that {NAMES[number % 5]} met {NAMES[number * 3 % 4]} again."


def write_corpus(root: Path, texts: list[str]) -> Places:
    """Write passages where the workflow has them; return the places of an annotation by ``t``."""
    places = Places.of("t", "c", root)
    places.passages.parent.mkdir(parents=True, exist_ok=True)
    rows = ({"id": f"passage-{i:06d}", "text": text, "tokens": len(text.split())} for i, text in enumerate(texts))
    places.passages.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return places


def teacher(url: str, prompt: str = "type", **options: Any) -> TeacherSpec:
    return TeacherSpec.model_validate(
        {"title": "T", "prompt": prompt, "endpoint": {"url": url, "model": "m", "max_tokens": 100, **options}}
    )


def files(places: Places) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(places.output.iterdir())}
