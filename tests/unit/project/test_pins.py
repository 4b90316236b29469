"""The conda environments and the lock name the same versions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml


def lock(root: Path) -> dict[str, str]:
    lines = (root / "requirements.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {name.lower().replace("_", "-"): version for name, version in pairs}


@pytest.mark.parametrize("name", ["workflow", "data", "models", "tracking", "report", "teacher"])
def test_env_has_the_locks_pins(root: Path, name: str) -> None:
    pinned = lock(root)
    env = yaml.safe_load((root / "envs" / f"{name}.yaml").read_text())
    packages = next(entry["pip"] for entry in env["dependencies"] if isinstance(entry, dict))
    for entry in packages:
        if entry.startswith("-e"):
            continue
        package, _, version = entry.partition("==")
        assert version == pinned[package.lower().replace("_", "-")], f"envs/{name}.yaml: {entry}"


def test_every_rule_names_an_env_that_exists(root: Path) -> None:
    for rules in (root / "workflow" / "rules").glob("*.smk"):
        for env in re.findall(r'conda:\s+"([^"]+)"', rules.read_text()):
            assert (rules.parent / env).exists(), f"{rules.name}: {env}"


def test_lock_pins_exactly(root: Path) -> None:
    for line in (root / "requirements.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.!]+", line), line
