"""Commands that the documentation names, as they are typed; nothing is run but plans."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.project import Project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.make(tmp_path_factory.mktemp("commands") / "project")


def commands(root: Path, option: str) -> list[list[str]]:
    """The arguments of the documented calls of snakemake that hold ``option``."""
    texts = [path.read_text(encoding="utf-8") for path in (root / "README.md", *sorted((root / "docs").glob("*.md")))]
    spans = [span for text in texts for span in text.split("`") if span.startswith("snakemake ")]
    return [span.split()[1:] for span in spans if option in span.split()]


def test_options_that_take_many_words_leave_the_target(project: Project, root: Path) -> None:
    wanted = {"--until": {"fetch", "data", "backbone"}, "--groups": {"score", "table"}}
    for option, rules in wanted.items():
        [typed] = commands(root, option)
        planned = set(project.rules(*("results/table1.csv" if word == "TARGET" else word for word in typed)))
        assert planned >= rules and (option == "--groups" or planned == rules)


def test_a_report_may_lie_in_results_but_an_unknown_target_is_said(project: Project) -> None:
    done = project.run("-n", "--report", "results/wf.html", check=False)
    assert "unknown table" not in done.stdout + done.stderr and "Creating report" in done.stdout
    done = project.run("-n", "results/demmo.csv", check=False)
    assert done.returncode and "did you mean 'demo'?" in done.stdout + done.stderr
