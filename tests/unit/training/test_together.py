"""Trainings that share their forwards learn what they learn alone, dropout and rates and ends of their own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from fewtable.training.contrast import Contrast, Contrasting, shared
from fewtable.training.loop import Loop, LoopOptions, train
from fewtable.training.packing import apart, packs
from fewtable.training.sft import Places, Row, causal_loss
from fewtable.training.together import Part, adapter_name, several, train_together
from fewtable.training.weights import adapted, save_adapter

LORA: dict[str, Any] = {"r": 4, "alpha": 8.0, "dropout": 0.2, "targets": ["q_proj", "k_proj", "down_proj"]}
OPTIONS = LoopOptions(epochs=2, batch_size=3, lr=1e-2)
SIZES = (7, 4, 1)
"""Rows of each training: five steps, four, two."""


def llama() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    return LlamaForCausalLM(config).requires_grad_(False)


def rows_of(part: int) -> list[Row]:
    rng = random.Random(part)
    header = tuple(rng.randrange(50) for _ in range(12))
    made = []
    for _ in range(SIZES[part]):
        tail = tuple(rng.randrange(50) for _ in range(rng.randint(6, 12)))
        places = Places((4, 6), (12, 16), ((13, 14),)) if rng.random() < 0.7 else None
        made.append(Row(header + tail, (False,) * 16 + (True,) * (len(tail) - 4), places))
    return made


def loop(part: int, folder: Path, lines: list[dict[str, float]], save_every: float = 60.0) -> Loop:
    def log(step: int, **values: float) -> None:
        lines.append({"step": step, **values})

    return Loop(OPTIONS, 100 + part, log, folder / str(part), 16, save_every)


def split(rows: Sequence[Row]) -> Sequence[Sequence[Row]]:
    return packs(shared(rows, Contrast(weight=0.5)), 2)


def loss_of(base: Any) -> Any:
    return Contrasting(base, Contrast(weight=0.5)).added(causal_loss(base, autocast=False))


def alone(base: Any, folder: Path, init: Path | None = None) -> list[list[dict[str, float]]]:
    logs: list[list[dict[str, float]]] = [[] for _ in SIZES]
    for part, lines in enumerate(logs):
        with adapted(base, LORA, 7 + part, init) as model, apart(base):
            train(model, rows_of(part), loss_of(base), loop(part, folder, lines), split)
            save_adapter(model, folder / f"alone{part}", "tiny")
    return logs


def together(base: Any, folder: Path, init: Path | None = None, **options: float) -> list[list[dict[str, float]]]:
    logs: list[list[dict[str, float]]] = [[] for _ in SIZES]
    starts = [(7 + part, init) for part in range(len(SIZES))]
    with several(base, LORA, starts) as model, apart(base):
        parts = [Part(rows_of(n), loop(n, folder, lines, **options)) for n, lines in enumerate(logs)]
        train_together(model, parts, loss_of(base), split)
        for part in range(len(SIZES)):
            save_adapter(model, folder / f"together{part}", "tiny", adapter_name(part))
    return logs


def same(folder: Path) -> None:
    for part in range(len(SIZES)):
        ours, theirs = (folder / f"{kind}{part}" for kind in ("together", "alone"))
        assert sorted(p.name for p in ours.iterdir()) == sorted(p.name for p in theirs.iterdir())
        assert (ours / "adapter_config.json").read_text() == (theirs / "adapter_config.json").read_text()
        left, right = (load_file(f / "adapter_model.safetensors") for f in (ours, theirs))
        assert left.keys() == right.keys()
        for name in left:
            torch.testing.assert_close(left[name], right[name], rtol=1e-3, atol=1e-5)


def test_each_learns_what_it_learns_alone(tmp_path: Path) -> None:
    base = llama()
    before = {n: p.clone() for n, p in base.named_parameters()}
    apart_, joint = alone(base, tmp_path), together(base, tmp_path)
    assert [len(lines) for lines in joint] == [6, 4, 2]
    for left, right in zip(joint, apart_, strict=True):
        assert [line["step"] for line in left] == [line["step"] for line in right]
        assert [line["lr"] for line in left] == [line["lr"] for line in right]
        assert [line["loss"] for line in left] == pytest.approx([line["loss"] for line in right], rel=1e-4)
    same(tmp_path)
    assert all(torch.equal(p, before[n]) for n, p in base.named_parameters()), "the backbone is as it was"
    assert not any("lora" in n for n, _ in base.named_modules())


def test_each_goes_on_from_an_earlier_adapter(tmp_path: Path) -> None:
    base = llama()
    alone(base, tmp_path / "first")
    for way in (alone, together):
        way(base, tmp_path, tmp_path / "first" / "alone0")
    same(tmp_path)


def test_a_killed_one_goes_on_alone_or_together(tmp_path: Path) -> None:
    base = llama()
    alone(base, tmp_path)

    class Killed(Exception):
        pass

    def dying(step: int, **_: float) -> None:
        if step == 3:
            raise Killed

    starts = [(7 + part, None) for part in range(len(SIZES))]
    with pytest.raises(Killed), several(base, LORA, starts) as model, apart(base):
        loops = [loop(n, tmp_path, [], save_every=0) for n in range(len(SIZES))]
        loops[0] = Loop(OPTIONS, 100, dying, tmp_path / "0", 16, 0)
        train_together(model, [Part(rows_of(n), own) for n, own in enumerate(loops)], loss_of(base), split)
    logs = together(base, tmp_path, save_every=0)
    assert [lines[0]["step"] if lines else None for lines in logs] == [3, 3, 2]
    same(tmp_path)


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    from fewtable.errors import ConfigError

    base = llama()

    def broken(rows: Sequence[Row]) -> Any:
        each, weight = causal_loss(base, autocast=False)(rows)
        return each * float("nan"), weight

    with several(base, LORA, [(1, None), (2, None)]) as model, apart(base):
        parts = [Part(rows_of(n), loop(n, tmp_path, [])) for n in (0, 1)]
        with pytest.raises(ConfigError, match="the loss is nan at step 1"):
            train_together(model, parts, broken, split)
