"""LoRA on the supports of several episodes: peft's layers one after the other, ours one after the other, ours together.

    python benchmarks/adapters.py [--episodes 4] [--batch 4] [--epochs 1] [--layers 30] [--dtype bfloat16]
                                  [--repeats 1] [--threads 1] [--device cpu] [--output FILE.json]

Rows are as long as OBP-LLM's: a header that all share (38 tokens), a type's question (45), a sentence (28), an answer
(12); an episode has 4 sentences and 5 types, all random tokens, on a random Llama of SmolLM2's width. ``peft`` is what
a user would run: peft's own layers and batches padded to their longest, one episode after the other. Without dropout
the losses of every step are the same on all sides, which is asserted (to 1e-4 in float32, 2e-2 in bfloat16). Runs
alternate in one process; CPU seconds, or seconds of a synchronised GPU.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from fewtable.decoding.generate import pad
from fewtable.files import write_json
from fewtable.training.loop import Loop, LoopOptions, train
from fewtable.training.packing import apart, packs
from fewtable.training.sft import Row, causal_loss
from fewtable.training.together import Part, several, train_together
from fewtable.training.weights import adapted

VOCABULARY = 8192
LORA: dict[str, Any] = {
    "r": 8, "alpha": 16, "dropout": 0.0,
    "targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}  # fmt: skip
Logs = list[list[float]]


def episode(number: int, header: tuple[int, ...]) -> list[Row]:
    """Return the rows of an episode."""
    rng = random.Random(number)

    def text(length: int) -> tuple[int, ...]:
        return tuple(rng.randrange(VOCABULARY) for _ in range(length))

    sentences = [text(28) for _ in range(4)]
    questions = [text(45) for _ in range(5)]
    prompts = [header + question + sentence for question in questions for sentence in sentences]
    return [Row(prompt + text(12), (False,) * len(prompt) + (True,) * 12) for prompt in prompts]


def padded_loss(model: Any, rows: Sequence[Row]) -> tuple[torch.Tensor, float]:
    """Return the loss of rows padded to the longest; the head sees answers only, as ours does."""
    ids, mask = (t.to(model.device) for t in pad([row.ids for row in rows], 0, left=False))
    learned = torch.zeros_like(ids, dtype=torch.bool)
    for number, row in enumerate(rows):
        learned[number, row.places] = True
    hidden = model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden[:, :-1][learned[:, 1:]])
    return cross_entropy(logits.float(), ids[learned], reduction="sum"), float(learned.sum())


def loops(options: LoopOptions, logs: Logs, folder: Path, batch: int) -> list[Loop]:
    """Return the surroundings of each training, whose losses ``logs`` gets."""

    def log(lines: list[float], step: int, *, loss: float, lr: float) -> None:
        lines.append(loss)

    return [Loop(options, n, partial(log, lines), folder / str(n), batch, 1e9) for n, lines in enumerate(logs)]


def with_peft(base: Any, rows: Sequence[Sequence[Row]], made: Sequence[Loop]) -> None:
    """Train each episode by peft's layers and padded batches."""
    for own, loop in zip(rows, made, strict=True):
        torch.manual_seed(loop.seed)
        config = LoraConfig(r=8, lora_alpha=16, target_modules=LORA["targets"], task_type="CAUSAL_LM")
        model = get_peft_model(base, config)
        train(model, own, partial(padded_loss, base), loop)
        model.unload()


def with_ours(base: Any, rows: Sequence[Sequence[Row]], made: Sequence[Loop]) -> None:
    """Train each episode as a job does, one after the other."""
    for own, loop in zip(rows, made, strict=True):
        with adapted(base, LORA, loop.seed, None) as model, apart(base):
            train(model, own, causal_loss(base, autocast=False), loop, lambda batch: packs(batch, 16))


def with_all(base: Any, rows: Sequence[Sequence[Row]], made: Sequence[Loop]) -> None:
    """Train all episodes at once."""
    with several(base, LORA, [(loop.seed, None) for loop in made]) as model, apart(base):
        parts = [Part(own, loop) for own, loop in zip(rows, made, strict=True)]
        train_together(model, parts, causal_loss(base, autocast=False), lambda batch: packs(batch, 16))


SIDES: dict[str, Callable[[Any, Sequence[Sequence[Row]], Sequence[Loop]], None]] = {
    "peft, one after the other": with_peft,
    "ours, one after the other": with_ours,
    "ours, together": with_all,
}


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("episodes", 4), ("batch", 4), ("epochs", 1), ("layers", 30), ("repeats", 1), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=576, intermediate_size=1536, num_hidden_layers=given.layers,
        num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
        attn_implementation="eager" if given.device == "cpu" else "sdpa",
    )  # fmt: skip
    base = LlamaForCausalLM(config).to(given.device, getattr(torch, given.dtype)).requires_grad_(False)
    header = tuple(random.Random("header").randrange(VOCABULARY) for _ in range(38))
    rows = [episode(number, header) for number in range(given.episodes)]
    options = LoopOptions(epochs=given.epochs, batch_size=given.batch, lr=1e-3)
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    first: Logs = []
    clock = time.process_time if given.device == "cpu" else time.perf_counter
    for _ in range(given.repeats):
        for name, side in SIDES.items():
            logs: Logs = [[] for _ in rows]
            with tempfile.TemporaryDirectory() as folder:
                start = clock()
                side(base, rows, loops(options, logs, Path(folder), given.batch))
                if given.device != "cpu":
                    torch.cuda.synchronize()
                seconds[name].append(clock() - start)
            first = first or logs
            near = 2e-2 if given.dtype == "bfloat16" else 1e-4
            gap = max(abs(a - b) / b for l1, l2 in zip(logs, first, strict=True) for a, b in zip(l1, l2, strict=True))
            assert gap < near, f"{name}: losses differ by {gap:.2g}"
    least = {name: min(values) for name, values in seconds.items()}
    for name, value in least.items():
        others = ", ".join(f"{least[other] / value:.2f} times as fast as {other}" for other in least if other != name)
        print(f"{name}: {value:.1f} s, {others} (median {statistics.median(seconds[name]):.1f} s)")
    if given.output:
        write_json(given.output, {"seconds": seconds, "episodes": given.episodes, "batch": given.batch})


if __name__ == "__main__":
    main()
