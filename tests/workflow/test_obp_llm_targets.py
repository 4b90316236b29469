"""OBP-LLM's tables plan from nothing, by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fewtable.plan import Plan
from fewtable.registry import Registry
from fixtures.project import Project


@pytest.mark.parametrize("name", ["small", "table5", "table2-pooled"])
def test_a_table_plans(tmp_path: Path, mirror: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project.make(tmp_path / "project")
    config = project.root / "config/config.yaml"
    config.write_text(config.read_text().replace("\nmirror:\n", f"\nmirror: {mirror}\n"))
    done = project.run("-n", f"results/obp-llm/{name}.csv", "results/obp-llm/table1.csv", "--quiet", "rules")
    found = re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    planned = {rule: int(count) for rule, count in found}
    monkeypatch.chdir(project.root)
    cells = Plan(Registry(Path("config")), {"mirror": str(mirror)}).cells("tables", f"obp-llm/{name}")
    assert (planned["table"], planned["statistics"]) == (1, 1)
    assert planned["cell"] == planned["track"] == planned["decode"] == len(cells), "a cell's episodes are one job"
    assert planned["train"] > len(cells), "the source runs come on top"
