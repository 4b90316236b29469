"""Blocks of draws through a family: one at a time, resumed, never mixed, never shown the gold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fewtable import runner
from fewtable.corpus import Entity, Sentence, Task
from fewtable.errors import DataError
from fewtable.families.base import Fit
from fewtable.files import read_jsonl
from fewtable.specs import RunSpec

GOLD = Sentence("test-000000", ("a",), (Entity(0, 1, "x"),))
TASKS = [Task(draw, ("x",), (GOLD,), (GOLD,)) for draw in (1, 2)]
SPEC = RunSpec(
    dataset="d", setting="s", method="m", backbone="none", draws=(1, 2), types={"x": {}}, family="toy",
    format={"name": "spans"}, train={}, dtype="float32", code="0",
)  # fmt: skip


class Toy:
    """A family that writes down what it was given, and stops at a draw when told to."""

    stop_at: int | None = None
    seen: list[tuple[str, int]] = []  # noqa: RUF012

    def fit(self, task: Task, fit: Fit) -> None:
        assert all(not s.entities for s in task.query)
        assert task.support[0].entities
        self.seen.append(("fit", task.draw))
        fit.log(1, loss=2.0)
        if self.stop_at == task.draw:
            raise KeyboardInterrupt
        fit.log(2, loss=1.0)
        start = (fit.init / "weights").read_text() if fit.init else "new"
        (fit.model / "weights").write_text(f"{start} {fit.seed}")

    def decode(self, task: Task, model: Path) -> Iterator[Any]:
        assert all(not s.entities for s in task.query)
        self.seen.append(("decode", task.draw))
        if self.stop_at == task.draw:
            raise KeyboardInterrupt
        yield from ((model / "weights").read_text() for _ in task.query)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> type[Toy]:
    Toy.stop_at, Toy.seen = None, []
    monkeypatch.setattr(runner, "_open_session", lambda *args, **runtime: Toy())
    return Toy


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "backbone").mkdir()
    return {"backbone": tmp_path / "backbone", "output": tmp_path / "run/model", "checkpoint": tmp_path / "ck"}


def train(paths: dict[str, Path], spec: RunSpec = SPEC, init: Path | None = None) -> None:
    runner.train_block(spec, TASKS, init=init, device_batch=1, **paths)


def decode(paths: dict[str, Path], target: Path) -> None:
    runner.decode_block(
        SPEC, TASKS, backbone=paths["backbone"], model=paths["output"], output=target, checkpoint=paths["checkpoint"]
    )


def test_a_block_is_trained_and_decoded(paths: dict[str, Path], tmp_path: Path) -> None:
    train(paths)
    assert json.loads((paths["output"] / "spec.json").read_text())["method"] == "m"
    assert [row["step"] for _, row in read_jsonl(paths["output"] / "1/train.jsonl")] == [1, 2]
    assert not paths["checkpoint"].exists()
    decode(paths, tmp_path / "out.jsonl")
    rows = [row for _, row in read_jsonl(tmp_path / "out.jsonl")]
    assert [(row["draw"], row["id"]) for row in rows] == [(1, "test-000000"), (2, "test-000000")]
    assert rows[0]["output"] != rows[1]["output"], "each draw has a seed of its own"


def test_finished_draws_are_not_trained_again(paths: dict[str, Path], toy: type[Toy]) -> None:
    toy.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        train(paths)
    assert not paths["output"].exists()
    toy.stop_at = None
    train(paths)
    assert toy.seen == [("fit", 1), ("fit", 2), ("fit", 2)]
    assert [row["step"] for _, row in read_jsonl(paths["output"] / "2/train.jsonl")] == [1, 2]


def test_another_spec_starts_anew(paths: dict[str, Path], toy: type[Toy]) -> None:
    toy.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        train(paths)
    toy.stop_at = None
    train(paths, SPEC.model_copy(update={"train": {"lr": 1}}))
    assert toy.seen == [("fit", 1), ("fit", 2), ("fit", 1), ("fit", 2)]


def test_another_source_model_starts_anew(paths: dict[str, Path], toy: type[Toy], tmp_path: Path) -> None:
    init = tmp_path / "source"
    (init / "1").mkdir(parents=True)
    (init / "1/weights").write_text("old")
    toy.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        train(paths, init=init)
    (init / "1/weights").write_text("newer")
    toy.stop_at = None
    train(paths, init=init)
    assert {(paths["output"] / draw / "weights").read_text().split()[0] for draw in "12"} == {"newer"}


def test_decoding_never_mixes_two_models(paths: dict[str, Path], toy: type[Toy], tmp_path: Path) -> None:
    train(paths)
    toy.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        decode(paths, tmp_path / "out.jsonl")
    for draw in "12":
        (paths["output"] / draw / "weights").write_text("another model")
    toy.stop_at = None
    decode(paths, tmp_path / "out.jsonl")
    assert {row["output"] for _, row in read_jsonl(tmp_path / "out.jsonl")} == {"another model"}


def test_a_cut_log_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    log = runner.TrainLogFile(path)
    log(1, loss=9.0)
    log(2, loss=1.0)
    assert path.read_text() == '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n'


def test_wrong_draws_and_missing_models_are_said(paths: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the job asks for"):
        runner.train_block(SPEC, TASKS[:1], init=None, device_batch=1, **paths)
    with pytest.raises(DataError, match="no model of draw 1"):
        decode(paths, tmp_path / "out.jsonl")
