"""Two processes on CPUs train the weights that one trains, share the forwards of each step, and resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_text
import torch
from safetensors.torch import load_file

from fewtable import runner
from fewtable.corpus import Entity, Sentence, Task
from fewtable.errors import ConfigError
from fewtable.training import loop
from fewtable.training.parallel import agreed, leads, ranks, summed

TYPES = {"per": "person", "loc": "location"}
SUPPORT = (
    Sentence("train-000000", ("anna", "saw", "new", "york"), (Entity(0, 1, "per"), Entity(2, 4, "loc"))),
    Sentence("train-000001", ("she", "left")),
    Sentence("train-000002", ("york", "and", "anna"), (Entity(0, 1, "loc"), Entity(2, 3, "per"))),
    Sentence("train-000003", ("anna", "left", "york", "and", "new", "york")),
    Sentence("train-000004", ("she", "saw", "anna"), (Entity(2, 3, "per"),)),
)
TASKS = [Task(draw, tuple(TYPES), SUPPORT, SUPPORT) for draw in (1, 2)]
TRAIN = {"epochs": 4, "batch_size": 2, "lr": 1e-2, "lora": None}

CHILD = """
import json, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import test_parallel
from fewtable import runner
from fewtable.families import _text
_text.SAVE_EVERY = 0.0
if sys.argv[3] == "killed":
    logged = runner.TrainLogFile.__call__
    def log(self, step, **values):
        if step == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        logged(self, step, **values)
    runner.TrainLogFile.__call__ = log
test_parallel.train(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[4]))
"""


def train(folder: Path, work: Path, options: dict[str, Any]) -> None:
    """Train both draws; the models come to work/model."""
    spec = tiny_text.job(folder, "causal", TYPES, {**TRAIN, **options}).spec.model_copy(update={"draws": (1, 2)})
    paths = {"backbone": folder, "output": work / "model", "checkpoint": work / "checkpoint"}
    runner.train_block(spec, TASKS, init=None, device_batch=1, **paths)


def two(folder: Path, work: Path, how: str = "whole", **options: Any) -> subprocess.CompletedProcess[str]:
    """Train in two processes."""
    here = Path(__file__).parent
    (work.parent / "child.py").write_text(CHILD)
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    path = os.pathsep.join([str(here), *sys.path])
    return subprocess.run(
        [*run, str(work.parent / "child.py"), str(folder), str(work), how, json.dumps(options)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def lines(work: Path, draw: int) -> list[dict[str, float]]:
    return [json.loads(line) for line in (work / "model" / str(draw) / "train.jsonl").read_text().splitlines()]


def assert_alike(left: Path, right: Path) -> None:
    """The same losses, and weights that differ by rounding alone."""
    for draw in (1, 2):
        ours, theirs = lines(left, draw), lines(right, draw)
        assert [x["step"] for x in ours] == [x["step"] for x in theirs] == list(range(1, 13))
        assert [x["loss"] for x in ours] == pytest.approx([x["loss"] for x in theirs], rel=1e-3)
        a, b = (load_file(work / "model" / str(draw) / "model.safetensors") for work in (left, right))
        assert a.keys() == b.keys()
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_text.build(tmp_path_factory.mktemp("tiny") / "llama", "causal", SUPPORT, TYPES)


@pytest.mark.slow
def test_two_processes_train_what_one_trains_and_resume(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last batch of an epoch has one example, so that one process has none."""
    train(folder, tmp_path / "one", {})
    both = two(folder, tmp_path / "two")
    assert both.returncode == 0, both.stderr
    assert_alike(tmp_path / "one", tmp_path / "two")
    assert both.stderr.count("draw 1: training on") == 1
    files = [sorted(f.name for f in (tmp_path / name / "model" / "1").iterdir()) for name in ("one", "two")]
    assert files[0] == files[1]
    config = [(tmp_path / name / "model" / "1" / "config.json").read_text() for name in ("one", "two")]
    assert config[0] == config[1]

    assert two(folder, tmp_path / "killed", "killed").returncode != 0
    assert not (tmp_path / "killed" / "model").exists()
    again = two(folder, tmp_path / "killed")
    assert again.returncode == 0, again.stderr
    for draw in (1, 2):
        assert lines(tmp_path / "killed", draw) == lines(tmp_path / "two", draw)
        one, other = (tmp_path / name / "model" / str(draw) / "model.safetensors" for name in ("two", "killed"))
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_adapters_are_refused_on_several_gpus(folder: Path, tmp_path: Path) -> None:
    both = two(folder, tmp_path / "two", lora={"r": 2})
    assert both.returncode != 0
    assert "several GPUs train all weights of causal backbones only" in both.stderr


def test_one_process_needs_no_others() -> None:
    assert (ranks(), leads(), agreed("x"), summed(1, 2)) == (1, True, "x", [1.0, 2.0])


def test_weights_that_are_not_spread_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "ranks", lambda: 2)
    options = loop.LoopOptions(epochs=1, batch_size=1, lr=1.0)
    with pytest.raises(ConfigError, match="several GPUs"):
        loop.train(torch.nn.Linear(1, 1), [1], lambda _: (torch.zeros(()), 1.0),
                   loop.Loop(options, 1, lambda *_, **__: None, tmp_path, 1))  # fmt: skip
