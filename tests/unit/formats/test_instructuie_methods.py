"""InstructUIE's methods as they resolve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewtable.registry import Registry
from fewtable.resolve import Method, Run, resolve
from fewtable.specs import UserConfig


@pytest.fixture(scope="module")
def registry(root: Path) -> Registry:
    return Registry(root / "config")


def resolved(registry: Registry, method: str, backbone: str) -> Method:
    return resolve(registry, UserConfig(), Run("mit-movie", "full", method, backbone))


@pytest.mark.parametrize(
    ("size", "epochs"), [("flan-t5-base", 10), ("flan-t5-large", 10), ("flan-t5-xl", 5), ("flan-t5-xxl", 5)]
)
def test_larger_models_have_half_the_epochs(registry: Registry, size: str, epochs: int) -> None:
    train = resolved(registry, "instructuie", size).train
    expected: dict[str, Any] = {"epochs": epochs, "batch_size": 256, "lr": 5e-5, "warmup": 0.0, "schedule": "constant"}
    assert {key: train[key] for key in expected} == expected


def test_the_causal_twin_leaves_the_cue_to_its_template(registry: Registry) -> None:
    made = resolved(registry, "instructuie-causal", "smollm2-135m")
    assert made.format_options["cue"] is False and made.train["template"] == "plain"
    assert resolved(registry, "instructuie", "flan-t5-base").format_options["cue"] is True
