"""What the tests of the span methods share: a tiny BERT with a mask, sessions, and F1 of spans."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tiny_encoder import build, job, sentence

from fewtable.corpus import EntityType, Task
from fewtable.families import span_metric
from fewtable.formats import spans as spans_format

SUPPORT = (
    sentence(0, "anna saw new york", (0, 1, "per"), (2, 4, "loc")),
    sentence(1, "she likes paris", (2, 3, "loc")),
    sentence(2, "bob saw anna there", (0, 1, "per"), (2, 3, "per")),
    sentence(3, "she saw there"),
)
TYPES = ("loc", "per")
TASK = Task(1, TYPES, SUPPORT, SUPPORT)
ADAPT = {"episodes": 6, "batch_size": 2, "lr": 1e-3, "heads": 5.0, "shape": {"ways": 2, "shots": 1, "query": 1}}
FILES = ("encoder.safetensors", "heads.safetensors")


def build_masked(folder: Path, words: Iterable[str], hidden: int = 64) -> Path:
    """A tiny BERT whose tokenizer has a mask."""
    build(folder, ["[mask]", *words], hidden)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mask_token": "[mask]"}))
    return folder


def session(folder: Path, model: dict[str, Any], adapt: dict[str, Any] | None = None, **decode: Any) -> Any:
    return span_metric.load(job(folder, "span-metric", {"model": model, "adapt": adapt}, decode, tags="spans"))


def weights(run: Path) -> list[bytes]:
    return [(run / "model" / name).read_bytes() for name in FILES]


def micro_f1(task: Task, outputs: list[Any]) -> float:
    """Of outputs of which none is dropped and none overlaps."""
    reader = spans_format.FORMAT([EntityType(t, t, t) for t in task.types], spans_format.FORMAT.Options())
    right = found = gold = 0
    for text, output in zip(task.query, outputs, strict=True):
        parsed = reader.parse(text.words, output)
        assert not parsed.dropped
        assert all(a.end <= b.start for a, b in zip(parsed.entities, parsed.entities[1:], strict=False))
        right += len(set(parsed.entities) & set(text.entities))
        found, gold = found + len(parsed.entities), gold + len(text.entities)
    return 2 * right / (found + gold) if found + gold else 0.0
