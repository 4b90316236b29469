"""Partial reruns (DESIGN §5), each sentence on the demo's plan."""

from __future__ import annotations

import os
import time

import pytest

from fixtures.project import TARGETS, Project

pytestmark = pytest.mark.slow

AFTER_TRAINING = {"train", "decode", "score", "cell", "track"}


def methods(jobs: set[tuple[str, str]], rule: str) -> set[str]:
    return {what.split(".")[0] for r, what in jobs if r == rule}


def rules(jobs: set[tuple[str, str]]) -> set[str]:
    return {rule for rule, _ in jobs}


def test_a_second_call_runs_nothing(demo: Project) -> None:
    assert demo.planned(*TARGETS) == set()


def test_touching_everything_runs_nothing(demo: Project) -> None:
    now = time.time()
    for part in ("config", "workflow", "src", "profiles"):
        for path in (demo.root / part).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                os.utime(path, (now, now))
    assert demo.planned(*TARGETS) == set()


def test_a_caption_makes_only_the_table_and_what_shows_it(demo: Project) -> None:
    with demo.edited("config/tables/demo.yaml", "Few-shot NER on WNUT-16", "NER with few shots on WNUT-16"):
        assert rules(demo.planned("results/demo.csv")) == {"table"}
        assert rules(demo.planned(*TARGETS)) == {"table", "report"}


def test_a_hyper_parameter_retrains_its_method_only(demo: Project) -> None:
    with demo.edited(
        "config/config.yaml", "lc-bert:\n    train:\n      epochs: 1", "lc-bert:\n    train:\n      epochs: 2"
    ):
        jobs = demo.planned("results/demo.csv")
    assert rules(jobs) == AFTER_TRAINING | {"table"}
    assert all(methods(jobs, rule) == {"lc-bert"} for rule in AFTER_TRAINING)


def test_a_decoding_option_decodes_only(demo: Project) -> None:
    with demo.edited("config/config.yaml", "max_new_tokens: 8", "max_new_tokens: 9"):
        jobs = demo.planned("results/demo.csv")
    assert rules(jobs) == (AFTER_TRAINING | {"table"}) - {"train"}
    assert methods(jobs, "decode") == {"instructionner-causal"}


def test_a_parsing_option_parses_only(demo: Project) -> None:
    with demo.edited(
        "config/config.yaml", "instructionner-causal:", "instructionner-causal:\n    format: {flat: true}"
    ):
        jobs = demo.planned("results/demo.csv")
    assert rules(jobs) == {"score", "cell", "track", "table"}
    assert methods(jobs, "score") == {"instructionner-causal"}


def test_a_family_module_retrains_its_methods_only(demo: Project) -> None:
    path = "src/fewtable/families/tagger.py"
    with demo.edited(
        path, "def fit(self, task: Task, fit: Fit) -> None:", "def fit(self, task: Task, fit: Fit, /) -> None:"
    ):
        jobs = demo.planned("results/demo.csv")
    assert methods(jobs, "train") == {"lc-bert"}
    assert methods(jobs, "decode") == {"lc-bert"}


def test_a_comment_and_a_docstring_run_nothing(demo: Project) -> None:
    path = "src/fewtable/families/tagger.py"
    with demo.edited(path, "from __future__", "# a remark\nfrom __future__"):
        assert demo.planned(*TARGETS) == set()
    with demo.edited(path, '"""', '"""Reworded. '):
        assert demo.planned(*TARGETS) == set()


def test_the_parser_does_not_retrain(demo: Project) -> None:
    path = "src/fewtable/formats/instructionner.py"
    with demo.edited(
        path,
        "def parse(self, words: Sequence[str], output: Any)",
        "def parse(self, words: Sequence[str], output: Any, /)",
    ):
        jobs = demo.planned("results/demo.csv")
    assert rules(jobs) == {"score", "cell", "track", "table"}
    assert methods(jobs, "score") == {"instructionner-causal"}


def test_the_scorer_decodes_nothing(demo: Project) -> None:
    path = "src/fewtable/scoring/block.py"
    with demo.edited(path, "sorted(tasks, key=lambda task: task.draw)", "sorted(tasks, key=lambda one: one.draw)"):
        jobs = demo.planned("results/demo.csv")
    assert rules(jobs) == {"score", "cell", "track", "table"}


def test_label_words_reach_the_methods_that_show_them(demo: Project) -> None:
    with demo.edited("config/datasets/_wnut16-types.yaml", "words: company", "words: firm"):
        jobs = demo.planned("results/demo.csv")
    assert methods(jobs, "train") == {"instructionner-causal"}


def test_a_definition_reaches_nobody_here(demo: Project) -> None:
    with demo.edited("config/datasets/_wnut16-types.yaml", "definition: ", "definition: Reworded, "):
        assert demo.planned("results/demo.csv") == set()


def test_runtime_knobs_run_nothing(demo: Project) -> None:
    with demo.edited("config/config.yaml", "device_batch: 16", "device_batch: 4"):
        assert demo.planned(*TARGETS) == set()
    with demo.edited("config/config.yaml", "threads: 1", "threads: 2"):
        assert demo.planned(*TARGETS) == set()


def test_a_draw_more_is_a_new_block(demo: Project) -> None:
    with demo.edited("config/config.yaml", "draws: {}", "draws: {5-shot-300: 3}"):
        jobs = demo.planned("results/demo.csv")
    assert {what for rule, what in jobs if rule == "sample"} == {"3-3"}
    assert {what.partition(".")[2] for rule, what in jobs if rule == "train"} == {"3-3"}
    assert len(methods(jobs, "train")) == 5


def test_a_method_taken_out_of_the_table_leaves_the_cells(demo: Project) -> None:
    with demo.edited("config/tables/demo.yaml", "  - [structshot, nnshot]\n", ""):
        assert rules(demo.planned("results/demo.csv")) == {"table"}
