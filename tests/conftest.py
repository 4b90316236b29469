"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder with the real corpora: $FEWTABLE_MIRROR, else ../shared/data."""
    folder = Path(os.environ.get("FEWTABLE_MIRROR", ROOT.parent / "shared" / "data"))
    if not (folder / "MANIFEST.json").exists():
        pytest.skip(f"no mirror of the corpora at {folder} (set FEWTABLE_MIRROR)")
    return folder
