"""The generative methods of the InstructionNER paper as they resolve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewtable.registry import Registry
from fewtable.resolve import Method, Run, resolve
from fewtable.specs import UserConfig

SEQ2SEQ = {
    "instructionner": {},
    "instructionner-et": {"auxiliary": ["et"]},
    "instructionner-ee": {"auxiliary": ["ee"]},
    "instructionner-et-ee": {"auxiliary": ["et", "ee"]},
    **{f"instructionner-aux-0.{n}": {"auxiliary": ["et", "ee"], "ratio": n / 10} for n in range(1, 10)},
    "instructionner-synthetic": {"labels": "tokens"},
    "t5-natural": {"shown": "sentence"},
    "bart-instruction": {},
    "instructionner-transfer": {},
    "t5-natural-transfer": {"shown": "sentence"},
}
CAUSAL = {
    "instructionner-causal": {},
    "instructionner-causal-et": {"auxiliary": ["et"]},
    "instructionner-causal-ee": {"auxiliary": ["ee"]},
    "instructionner-causal-et-ee": {"auxiliary": ["et", "ee"]},
    "instructionner-causal-synthetic": {"labels": "tokens"},
    "causal-natural": {"shown": "sentence"},
}
PLAIN = {"parse": "paper", "flat": False, "shown": "all", "labels": "words", "auxiliary": [], "ratio": 1.0}


@pytest.fixture(scope="module")
def registry(root: Path) -> Registry:
    return Registry(root / "config")


def resolved(registry: Registry, method: str, backbone: str, dataset: str = "mit-movie") -> Method:
    return resolve(registry, UserConfig(), Run(dataset, "20-shot", method, backbone))


@pytest.mark.parametrize(("method", "options"), [*SEQ2SEQ.items(), *CAUSAL.items()])
def test_a_method_differs_from_the_base_in_its_format(registry: Registry, method: str, options: Any) -> None:
    base, backbone = ("instructionner", "t5-large") if method in SEQ2SEQ else ("instructionner-causal", "smollm2-135m")
    made, plain = resolved(registry, method, backbone), resolved(registry, base, backbone)
    assert made.format_options == {**PLAIN, **options}
    assert made.decode == plain.decode
    lr = 2e-5 if method == "bart-instruction" else plain.train["lr"]
    assert made.train == {**plain.train, "lr": lr}


@pytest.mark.parametrize("method", SEQ2SEQ)
def test_atis_has_synthetic_labels_in_every_row(registry: Registry, method: str) -> None:
    assert resolved(registry, method, "t5-base", "atis").format_options["labels"] == "tokens"


@pytest.mark.parametrize("method", ["instructionner", "t5-natural"])
def test_a_transfer_goes_on_from_all_of_conll(registry: Registry, method: str) -> None:
    made = resolved(registry, f"{method}-transfer", "t5-large", "mit-restaurant")
    assert made.init == Run("conll2003", "full", method, "t5-large")
