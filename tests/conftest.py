"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# A busy machine makes any example slow now and then, and no test asserts a time.
settings.register_profile("fewtable", deadline=None)
settings.load_profile("fewtable")


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
