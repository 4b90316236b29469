"""Pointer models over the random BART of the registry, and jobs that train them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tiny_encoder import sentence

from fewtable.backbones import materialise
from fewtable.corpus import EntityType, Task
from fewtable.families.base import Job
from fewtable.formats import pointer as pointer_format
from fewtable.registry import Registry
from fewtable.specs import RunSpec
from fewtable.training.encoder import Encoder
from fewtable.training.pointer import PointerModel

TYPES = {"per": "person", "loc": "place name"}
"""The second has two words, so more pieces; both have several in a tokenizer of bytes."""
SUPPORT = (
    sentence(0, "anna saw new york", (0, 1, "per"), (2, 4, "loc")),
    sentence(1, "she left early"),
    sentence(2, "york and anna", (0, 1, "loc"), (2, 3, "per")),
)
TASK = Task(1, tuple(TYPES), SUPPORT, SUPPORT)
TRAIN = {"epochs": 3, "batch_size": 2, "lr": 1e-3}
PROMPTS = {"length": 3, "width": 8}
KINDS: dict[str, dict[str, Any]] = {"bartner": TRAIN, "lightner": {**TRAIN, "prompts": PROMPTS}}


def build(root: Path, folder: Path, backbone: str = "tiny-bart") -> Path:
    materialise(backbone, Registry(root / "config").backbone(backbone), folder)
    return folder


def entity_types(types: dict[str, str] = TYPES) -> list[EntityType]:
    return [EntityType(name, words, "") for name, words in types.items()]


def model(folder: Path, kind: str, types: dict[str, str] = TYPES, dropout: float = 0.0) -> PointerModel:
    """A model whose prompts, if it has any, are large enough to matter."""
    torch.manual_seed(1)
    prompts = {"bartner": None, "lightner": (PROMPTS["length"], PROMPTS["width"])}[kind]
    made = PointerModel(Encoder(folder, "float32"), entity_types(types), "float32", dropout, prompts)
    return made.eval()


def job(
    folder: Path, train: dict[str, Any], decode: dict[str, Any] | None = None, types: dict[str, str] = TYPES
) -> Job:
    spec = RunSpec(
        dataset="d", setting="s", method="m", backbone="b", draws=(1,), family="pointer", format={"name": "pointer"},
        types={n: {"words": w} for n, w in types.items()}, train=train, decoding=decode, dtype="float32", code="",
    )  # fmt: skip
    return Job(spec, folder, device_batch=16)


def micro_f1(task: Task, outputs: Sequence[Any]) -> float:
    reader = pointer_format.FORMAT(entity_types(dict.fromkeys(task.types, "")), pointer_format.Options())
    right = found = gold = 0
    for asked, output in zip(task.query, outputs, strict=True):
        predicted = set(reader.parse(asked.words, output).entities)
        right += len(predicted & set(asked.entities))
        found, gold = found + len(predicted), gold + len(asked.entities)
    return 2 * right / (found + gold)
