"""The demo's plan, run once on a scratch copy with little training and few tweets."""

from __future__ import annotations

import pytest

from fixtures.project import TARGETS, Project, make_quick


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The quick demo, run to its end."""
    project = make_quick(tmp_path_factory.mktemp("demo") / "project")
    project.run(*TARGETS)
    return project
