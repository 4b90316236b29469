"""The hyper-parameters of the shipped methods as they resolve: the paper's values by number of shots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewtable.registry import Registry
from fewtable.resolve import Run, resolve
from fewtable.specs import UserConfig

TRAINED = ("lc-bert", "instructionner")
BATCHES = {20: 4, 50: 8, 100: 16, 200: 16, 500: 16}
"""InstructionNER's sentences a step by shots; fewer shots have 2."""
CHOSEN = {("lc-bert", "minilm", setting): 4 for setting in ("5-shot", "5-shot-300", "10-shot", "10-shot-300")}
"""Batches that were chosen on development data, on a backbone that the paper doesn't have."""


@pytest.fixture(scope="module")
def registry(root: Path) -> Registry:
    return Registry(root / "config")


def train(registry: Registry, method: str, backbone: str, setting: str) -> dict[str, Any]:
    return resolve(registry, UserConfig(), Run("conll2003", setting, method, backbone)).train


def backbones(registry: Registry, method: str) -> list[str]:
    kind = {"lc-bert": "encoder", "instructionner": "seq2seq"}[method]
    return [name for name in registry.names("backbones") if registry.backbone(name).kind == kind]


@pytest.mark.parametrize("method", TRAINED)
def test_every_setting_with_few_shots_has_the_papers_batch(registry: Registry, method: str) -> None:
    settings = [name for name in registry.names("settings") if name not in ("full", "zero-shot")]
    settings = [name for name in settings if not registry.setting(name).sampler.pool]
    assert {"5-way-1-shot-official", "hou-1-shot-official", "10-shot-300", "500-shot"} <= set(settings)
    for setting in settings:
        wanted = BATCHES.get(registry.setting(setting).sampler.k or 0, 2)
        for backbone in backbones(registry, method):
            found = train(registry, method, backbone, setting)["batch_size"]
            assert found == CHOSEN.get((method, backbone, setting), wanted), (setting, backbone)


@pytest.mark.parametrize("method", TRAINED)
def test_full_data_are_gone_through_ten_times_on_every_backbone(registry: Registry, method: str) -> None:
    for backbone in backbones(registry, method):
        found = train(registry, method, backbone, "full")
        assert (found["epochs"], found["batch_size"]) == (10, 16), backbone


def test_rates_follow_the_backbone_on_few_shots_and_the_paper_on_full_data(registry: Registry) -> None:
    rates = {
        (backbone, setting): train(registry, "instructionner", backbone, setting)["lr"]
        for backbone in ("t5-large", "t5-v1.1-large", "t5-base")
        for setting in ("10-shot", "full")
    }
    assert rates == {
        ("t5-large", "10-shot"): 5e-5,
        ("t5-large", "full"): 2e-5,
        ("t5-v1.1-large", "10-shot"): 1e-4,
        ("t5-v1.1-large", "full"): 2e-5,
        ("t5-base", "10-shot"): 5e-5,
        ("t5-base", "full"): 5e-5,
    }
    assert train(registry, "lc-bert", "bert-large-cased", "10-shot")["lr"] == 2e-5


def test_what_holds_in_a_setting_holds_in_those_that_extend_it(registry: Registry, tmp_path: Path) -> None:
    assert registry.lineage("settings", "5-way-1-shot-official-50") == (
        "5-way-1-shot-official-50",
        "5-way-1-shot-official",
    )
    for kind in ("settings", "datasets", "backbones"):
        (tmp_path / kind).symlink_to(registry.root / kind)
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods/few.yaml").write_text(
        "title: Few\nfamily: token-metric\nformat: {name: io}\n"
        "train: {head: nearest, layers: last, normalise: true, window: 64}\nwhen:\n"
        "  - {setting: [5-way-1-shot], set: {train: {window: 32}}}\n"
        "  - {setting: [5-way-1-shot-20], set: {train: {window: 16}}}\n"
    )
    own = Registry(tmp_path)
    windows = {"5-way-1-shot": 32, "5-way-1-shot-50": 32, "5-way-1-shot-20": 16, "5-way-5-shot": 64}
    assert {name: train(own, "few", "minilm", name)["window"] for name in windows} == windows
