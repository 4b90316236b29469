"""The shared training loop: exact accumulation, exact resume, gradients only where they should be."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fewtable.errors import ConfigError
from fewtable.training import loop as loop_module
from fewtable.training.loop import Loop, LoopOptions, _gradients, batches, rate, slices, total_steps, train

Example = tuple[list[float], list[float]]
EXAMPLES: list[Example] = [([float(i % 5), 1.0], [float(i % 3)] * (1 + i % 4)) for i in range(11)]


def make() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))


def token_loss(model: torch.nn.Module) -> Any:
    def loss(examples: Sequence[Example]) -> tuple[torch.Tensor, float]:
        x = torch.tensor([f for features, targets in examples for f in [features] * len(targets)])
        y = torch.tensor([t for _, targets in examples for t in targets])
        return ((model(x)[:, 0] - y) ** 2).sum(), float(len(y))

    return loss


def options(**over: Any) -> LoopOptions:
    return LoopOptions(**{"epochs": 3, "batch_size": 4, "lr": 0.05, **over})


def run(
    model: torch.nn.Module, folder: Path, device_batch: int = 16, **more: Any
) -> list[tuple[int, dict[str, float]]]:
    lines: list[tuple[int, dict[str, float]]] = []
    loop = Loop(
        more.pop("options", options()),
        seed=7,
        log=lambda step, **v: lines.append((step, v)),
        checkpoint=folder,
        device_batch=device_batch,
        **more,
    )
    train(model, EXAMPLES, token_loss(model), loop)
    return lines


def weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def test_rate_warms_up_and_falls_to_zero() -> None:
    o = options(lr=1.0, warmup=0.2)
    rates = [rate(o, step, 10) for step in range(10)]
    assert rates == pytest.approx([0.5, 1.0, *(n / 8 for n in range(8, 0, -1))])
    assert rate(options(lr=1.0, warmup=0, schedule="constant"), 9, 10) == 1.0
    cosine = [rate(options(lr=1.0, warmup=0.2, schedule="cosine"), step, 10) for step in (1, 2, 6, 9)]
    assert cosine == pytest.approx([1.0, 1.0, 0.5, (1 - math.cos(math.pi / 8)) / 2])


def test_every_epoch_sees_every_example_once_in_its_own_order() -> None:
    epochs = list(batches(range(10), 4, 3, 0, 6))
    first, second = ([n for batch in epochs[i : i + 3] for n in batch] for i in (0, 3))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert list(batches(range(10), 4, 3, 4, 6)) == epochs[4:]


def test_min_steps_lengthens_a_tiny_training() -> None:
    assert total_steps(options(epochs=2, batch_size=4), 11) == 6
    assert total_steps(options(epochs=2, batch_size=4, min_steps=50), 11) == 50
    assert total_steps(options(epochs=2, batch_size=4, max_steps=5), 11) == 5
    assert total_steps(options(min_steps=50), 0) == 0


def test_accumulation_gives_the_mean_over_tokens(tmp_path: Path) -> None:
    small, large = make()[::2], make()[::2]  # without dropout, whose mask depends on the shape
    a = run(small, tmp_path / "a", device_batch=1)
    b = run(large, tmp_path / "b", device_batch=16)
    assert [step for step, _ in a] == list(range(1, 10))
    for (_, left), (_, right) in zip(a, b, strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-5)
    for p, q in zip(weights(small), weights(large), strict=True):
        torch.testing.assert_close(p, q)


def test_the_gradient_is_that_of_the_mean_over_tokens() -> None:
    model = make()[::2]
    x = torch.tensor([f for features, targets in EXAMPLES for f in [features] * len(targets)])
    y = torch.tensor([t for _, targets in EXAMPLES for t in targets])
    mean = ((model(x)[:, 0] - y) ** 2).mean()
    expected = torch.autograd.grad(mean, list(model.parameters()))
    value = _gradients(slices(EXAMPLES, 3), token_loss(model), dict(model.named_parameters()))
    assert value == pytest.approx(float(mean.detach()))
    torch.testing.assert_close([p.grad for p in model.parameters()], list(expected))


def test_resume_gives_the_same_weights_and_log_to_the_bit(tmp_path: Path) -> None:
    whole = make()
    lines = run(whole, tmp_path / "none")

    class Killed(Exception):
        pass

    def dying(step: int, **_: float) -> None:
        if step == 6:
            raise Killed

    broken = make()
    loop = Loop(options(), 7, dying, tmp_path / "c", 16, save_every=0)
    with pytest.raises(Killed):
        train(broken, EXAMPLES, token_loss(broken), loop)
    again = make()
    resumed = run(again, tmp_path / "c", save_every=0)
    assert resumed == lines[5:]
    assert all(torch.equal(p, q) for p, q in zip(weights(whole), weights(again), strict=True))


def test_checkpoints_that_take_long_are_rare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, made = [0.0], []
    monkeypatch.setattr(loop_module.time, "monotonic", lambda: now[0])

    def saved(folder: Path, step: int, *_: object) -> None:
        made.append(step)
        now[0] += 1.0  # it takes a second

    def step(number: int, **_: float) -> None:
        now[0] += 8.0

    monkeypatch.setattr(loop_module, "_save", saved)
    model = make()
    train(model, EXAMPLES, token_loss(model), Loop(options(), 7, step, tmp_path / "c", 16, save_every=8.0))
    assert made == [1, 4, 7], "the first when due, the next after 20 times what the last took"


def test_a_checkpoint_of_another_training_is_left_alone(tmp_path: Path) -> None:
    run(make(), tmp_path / "c", save_every=0)
    other = options(lr=0.01)
    fresh, stale = make(), make()
    run(fresh, tmp_path / "none", options=other)
    assert len(run(stale, tmp_path / "c", options=other)) == 9
    assert all(torch.equal(p, q) for p, q in zip(weights(fresh), weights(stale), strict=True))


def test_only_parameters_that_require_a_gradient_move(tmp_path: Path) -> None:
    model = make()
    model[0].requires_grad_(False)
    before = weights(model)
    run(model, tmp_path)
    moved = [not torch.equal(p, q) for p, q in zip(before, weights(model), strict=True)]
    assert moved == [False, False, True, True]


def test_biases_are_not_decayed(tmp_path: Path) -> None:
    model = make()[::2]
    before = weights(model)

    def flat(examples: Sequence[Example]) -> tuple[torch.Tensor, float]:
        return sum((p.sum() * 0 for p in model.parameters()), torch.zeros(())), 1.0

    train(model, EXAMPLES, flat, Loop(options(weight_decay=0.5), 7, lambda *_, **__: None, tmp_path, 16))
    moved = [not torch.equal(p, q) for p, q in zip(before, weights(model), strict=True)]
    assert moved == [True, False, True, False]


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    model = make()

    def bad(examples: Sequence[Example]) -> tuple[torch.Tensor, float]:
        return model(torch.ones(1, 2)).sum() * float("nan"), 1.0

    with pytest.raises(ConfigError, match="nan at step 1"):
        train(model, EXAMPLES, bad, Loop(options(), 7, lambda *_, **__: None, tmp_path, 16))


CHILD = """
import sys, time
from pathlib import Path
from safetensors.torch import save_file
sys.path.insert(0, sys.argv[1])
from test_loop import make, run, options
model = make()
def slow(step, **_):
    print(step, flush=True)
    time.sleep(float(sys.argv[3]))
from fewtable.training.loop import Loop, train
from test_loop import EXAMPLES, token_loss
loop = Loop(options(epochs=10), 7, slow, Path(sys.argv[2]), 2, save_every=0)
train(model, EXAMPLES, token_loss(model), loop)
save_file(dict(model.state_dict()), sys.argv[4])
"""


@pytest.mark.slow
def test_kill_minus_nine_and_resume(tmp_path: Path) -> None:
    def start(folder: str, pause: str, out: str) -> subprocess.Popen[str]:
        arguments = [str(Path(__file__).parent), str(tmp_path / folder), pause, str(tmp_path / out)]
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, text=True, env=os.environ
        )

    killed = start("a", "0.2", "a.safetensors")
    assert killed.stdout is not None
    for line in killed.stdout:
        if int(line) == 8:
            killed.send_signal(signal.SIGKILL)
            break
    assert killed.wait() == -signal.SIGKILL
    resumed, whole = start("a", "0", "a.safetensors"), start("b", "0", "b.safetensors")
    left, right = resumed.communicate()[0].split(), whole.communicate()[0].split()
    assert 7 <= int(left[0]) <= 9 and left[-1] == right[-1] == "30" and right[0] == "1"
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_what_learns_faster_moves_so_many_times_as_far(tmp_path: Path) -> None:
    """AdamW's first step is as long as its rate."""
    plain, faster = make(), make()
    start = weights(plain)
    first = options(epochs=1, batch_size=len(EXAMPLES), warmup=0, weight_decay=0)
    for model, rates in ((plain, None), (faster, {"2.": 3.0})):
        loop = Loop(first, 7, lambda step, **v: None, tmp_path / "c", 16)
        train(model, EXAMPLES, token_loss(model), loop, rates=rates)
    moves = [[(a - b).abs().max() for a, b in zip(weights(m), start, strict=True)] for m in (plain, faster)]
    assert [float(fast / slow) for slow, fast in zip(*moves, strict=True)] == pytest.approx([1, 1, 3, 3], rel=1e-3)
