"""Packed training of conversations against padded rows: equal losses and gradients first, then time.

    python benchmarks/packing.py [--rows 12] [--size 4] [--layers 2] [--repeats 3] [--threads 1] [--device cpu]

One optimiser step's forwards and backwards, four ways, with all weights of a random Llama of SmolLM2's width:

- full: rows in random order, padded to 1024 tokens, as UniversalNER's released code does;
- longest: rows in random order, padded to the longest of each forward;
- sorted: rows sorted by length first, padded to the longest of each forward;
- packed: what training does here.

All compute the head at answer tokens only and attend with SDPA. Rows are as long as conversations: a passage of 40 to
256 tokens and 2 to 16 questions. Runs are interleaved in one process; CPU seconds, or seconds of a synchronised GPU
(bfloat16 autocast there).
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from fewtable.decoding.generate import layout
from fewtable.training.device import precision
from fewtable.training.loop import slices
from fewtable.training.packing import apart, packs
from fewtable.training.sft import Row, causal_loss

FULL = 1024
VOCABULARY = 8192


def conversations(count: int) -> list[Row]:
    """Return rows of a passage, questions of 8 to 14 tokens and answers of 3 to 12."""
    rng = random.Random(0)
    rows = []
    for _ in range(count):
        learned = [False] * rng.randint(40, 256)
        for _ in range(rng.randint(2, 16)):
            learned += [False] * rng.randint(8, 14) + [True] * rng.randint(3, 12)
        rows.append(Row(tuple(rng.randrange(VOCABULARY) for _ in learned), tuple(learned)))
    return rows


def padded_loss(model: Any, rows: Sequence[Row], width: int, *, autocast: bool) -> torch.Tensor:
    """Return the sum over the answer tokens of rows padded to ``width``."""
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, answers = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row.ids)
        mask[number, : len(row)] = 1
        answers[number, : len(row)] = torch.tensor(row.learned)
    ids, mask, answers = (t.to(model.device) for t in (ids, mask, answers))
    with precision(model.device, autocast=autocast):
        hidden = model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        logits = model.get_output_embeddings()(hidden[:, :-1][answers[:, 1:]])
    return cross_entropy(logits.float(), ids[answers], reduction="sum")


def sides(model: Any, rows: list[Row], size: int, *, autocast: bool) -> dict[str, Callable[[], float]]:
    """Return the four ways: each leaves the step's gradients and returns its summed loss."""

    def padded(parts: Sequence[Sequence[Row]], width: int | None) -> float:
        total = 0.0
        for part in parts:
            loss = padded_loss(model, part, width or max(map(len, part)), autocast=autocast)
            loss.backward()
            total += loss.item()
        return total

    def packed() -> float:
        total = 0.0
        with apart(model):
            for part in packs(rows, size):
                loss = causal_loss(model, autocast=autocast)(part)[0].sum()
                loss.backward()
                total += loss.item()
        return total

    by_length = [[rows[i] for i in part] for part in layout([len(row) for row in rows], size)]
    return {
        "full": lambda: padded(slices(rows, size), FULL),
        "longest": lambda: padded(slices(rows, size), None),
        "sorted": lambda: padded(by_length, None),
        "packed": packed,
    }


def timed(model: Any, side: Callable[[], float]) -> tuple[float, float, float]:
    """Return seconds, loss and norm of the gradient of one step."""
    cuda = model.device.type == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    model.zero_grad(set_to_none=True)
    start = clock()
    loss = side()
    if cuda:
        torch.cuda.synchronize()
    seconds = clock() - start
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    return seconds, loss, float(norm)


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--size", type=int, default=4, help="most rows of a padded forward")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=576, intermediate_size=1536, num_hidden_layers=options.layers,
        num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True, attn_implementation="sdpa",
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(options.device).train()
    rows = conversations(options.rows)
    autocast = options.device != "cpu"
    ways = sides(model, rows, options.size, autocast=autocast)
    checked = {name: timed(model, side) for name, side in ways.items()}  # the first run warms up, too
    _, loss, norm = checked["full"]
    near = 1e-2 if autocast else 1e-4
    for name, (_, other, its) in checked.items():
        assert abs(other - loss) <= near * loss and abs(its - norm) <= near * norm, (name, checked)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, side in ways.items():
            seconds[name].append(timed(model, side)[0])
    tokens = sum(map(len, rows))
    print(f"{len(rows)} conversations, {tokens} tokens, longest {max(map(len, rows))}; loss {loss:.2f} in all four")
    for name, found in seconds.items():
        ratios = [a / b for a, b in zip(found, seconds["packed"], strict=True)]
        print(f"{name}: {tokens / statistics.median(found):.0f} tokens a second, packed is ", end="")
        print(f"{statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
