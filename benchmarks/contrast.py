"""What the attention contrast adds to a fine-tuning step: hooks on two projections, no second forward.

    python benchmarks/contrast.py [--repeats 7] [--layers 30] [--threads 1] [--device cpu] [--output FILE.json]

A random Llama of SmolLM2-135M's shape with adapters (fp32), a step of eight questions of OBP-LLM's length, two of three
with an entity. Steps with and without the contrast take turns in one process; a ratio is that of the steps of a turn.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fewtable.files import write_json
from fewtable.training.contrast import Contrast, Contrasting, shared
from fewtable.training.packing import apart
from fewtable.training.sft import Places, Row, causal_loss
from fewtable.training.weights import adapted

LORA = {
    "r": 8, "alpha": 16, "dropout": 0.0,
    "targets": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}  # fmt: skip
FORMS = {
    "projections": Contrast(),
    "each entity": Contrast(per_entity=True),
    "hidden, InfoNCE": Contrast(features="hidden", form="infonce", positives="ends", neighbours=2, temperature=0.1),
}


def rows(count: int, vocabulary: int) -> list[Row]:
    """Return questions of about 110 tokens that begin alike, with a sentence of 25 and an answer of 15."""
    rng = random.Random(0)
    header = tuple(rng.randrange(10, vocabulary) for _ in range(40))
    found = []
    for number in range(count):
        ids = header + tuple(rng.randrange(10, vocabulary) for _ in range(rng.randint(65, 85)))
        start = len(ids) - 45
        entities = ((start + 4, start + 7), (start + 12, start + 13)) if number % 3 else ()
        learned = (False,) * (len(ids) - 15) + (True,) * 15
        found.append(Row(ids, learned, Places((45, 48), (start, start + 25), entities)))
    return found


def main() -> None:
    """Time both steps in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=options.layers,
        num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True, attn_implementation="eager",
    )  # fmt: skip
    base = LlamaForCausalLM(config).to(options.device)
    result = {}
    with adapted(base, LORA, 1, None) as model, apart(base):
        plain = causal_loss(base, autocast=False)
        for name, form in FORMS.items():
            data = shared(rows(8, config.vocab_size), form)
            joint = Contrasting(base, form).added(plain)
            result[name] = turns(model, plain, joint, data, options.repeats)
            ratios = result[name]["ratios"]
            print(
                f"{name}: {result[name]['plain']:.3f} s a step, with the contrast times "
                f"{statistics.median(ratios):.4f} ({min(ratios):.4f} to {max(ratios):.4f})",
                flush=True,
            )
    if options.output:
        write_json(options.output, result)


def turns(model: Any, plain: Any, joint: Any, data: list[Row], repeats: int) -> dict[str, Any]:
    """Return the median seconds of a step (CPU seconds, on a GPU wall seconds) and the ratio of each turn."""
    step(model, joint, data)
    seconds: dict[str, list[float]] = {"plain": [], "joint": []}
    for number in range(repeats):
        order = [("plain", plain), ("joint", joint)]
        for name, loss in order if number % 2 else reversed(order):
            seconds[name].append(step(model, loss, data))
    ratios = [b / a for a, b in zip(seconds["plain"], seconds["joint"], strict=True)]
    return {"plain": statistics.median(seconds["plain"]), "ratios": ratios}


def step(model: Any, loss: Any, data: list[Row]) -> float:
    """Make one forward and backward; return its seconds."""
    on_gpu = model.device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    model.zero_grad()
    start = clock()
    total, tokens = loss(data)
    (total.sum() / tokens).backward()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - start


if __name__ == "__main__":
    main()
