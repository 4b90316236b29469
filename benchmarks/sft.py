"""Our training loop against TRL's SFTTrainer (causal, LoRA) and transformers' Seq2SeqTrainer: equal losses, then time.

    python benchmarks/sft.py [--repeats 3] [--steps 6] [--rows 4] [--threads 1] [--output FILE.json]

Random models with the vocabularies of SmolLM2 and T5 (fp32), made-up token rows of a prompt and an answer, the same
starting weights, AdamW without decay, a constant rate. All rows make one batch, so both sides see the same batches.
Runs are interleaved in one process; CPU seconds of a whole training, start of the trainer included.
"""

from __future__ import annotations

import argparse
import copy
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from datasets import Dataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from fewtable.files import write_json
from fewtable.random_tokenizers import byte_tokenizer
from fewtable.training.loop import Loop, LoopOptions, train
from fewtable.training.packing import apart
from fewtable.training.sft import Pair, Row, causal_loss, seq2seq_loss
from fewtable.training.weights import adapted

LR = 1e-3
LORA = {"r": 8, "alpha": 16, "dropout": 0.0, "targets": ("q_proj", "v_proj")}


def rows(count: int, vocabulary: int) -> list[Pair]:
    """Return rows of about 90 prompt and 15 answer tokens, as InstructionNER's on tweets are."""
    rng = random.Random(0)

    def text(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(10, vocabulary) for _ in range(rng.randint(low, high)))

    return [Pair(text(75, 105), (*text(5, 25), 1)) for _ in range(count)]


def ours(model: Any, loss: Any, data: list[Any], steps: int) -> list[float]:
    """Train with our loop; return the loss of each step."""
    seen: list[float] = []
    options = LoopOptions(epochs=steps, batch_size=len(data), lr=LR, weight_decay=0.0, warmup=0.0, schedule="constant")
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(options, 1, lambda step, loss, lr: seen.append(loss), Path(folder), len(data))
        train(model, data, loss, loop)
    return seen


def arguments(kind: type[TrainingArguments], folder: str, data: list[Pair], steps: int, **more: Any) -> Any:
    """Return the trainer's arguments that say the same as ours."""
    return kind(
        output_dir=folder, per_device_train_batch_size=len(data), max_steps=steps, learning_rate=LR,
        lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0, logging_steps=1, save_strategy="no",
        report_to="none", use_cpu=True, bf16=False, disable_tqdm=True, dataloader_pin_memory=False, **more,
    )  # fmt: skip


def losses_of(trainer: Any) -> list[float]:
    """Train and return the logged losses."""
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def trl(model: Any, data: list[Pair], steps: int) -> list[float]:
    """Train with TRL."""
    table = Dataset.from_list(
        [
            {"input_ids": [*r.prompt, *r.answer], "completion_mask": [0] * len(r.prompt) + [1] * len(r.answer)}
            for r in data
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = arguments(
            SFTConfig, folder, data, steps, max_length=None, completion_only_loss=True, gradient_checkpointing=False
        )
        return losses_of(SFTTrainer(model=model, args=settings, train_dataset=table, processing_class=byte_tokenizer()))


def hf(model: Any, data: list[Pair], steps: int) -> list[float]:
    """Train with transformers' Seq2SeqTrainer."""
    table = Dataset.from_list([{"input_ids": list(r.prompt), "labels": list(r.answer)} for r in data])
    collate = transformers.DataCollatorForSeq2Seq(byte_tokenizer(), padding=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = arguments(Seq2SeqTrainingArguments, folder, data, steps)
        return losses_of(Seq2SeqTrainer(model=model, args=settings, train_dataset=table, data_collator=collate))


def causal(data: list[Pair], steps: int) -> dict[str, Callable[[], list[float]]]:
    """Return the two sides of the causal comparison."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, pad_token_id=0, attn_implementation="eager",
    )  # fmt: skip
    base = LlamaForCausalLM(config)

    def mine() -> list[float]:
        with adapted(base, LORA, 1, None) as model, apart(base):
            written = [Row(p.prompt + p.answer, (False,) * len(p.prompt) + (True,) * len(p.answer)) for p in data]
            return ours(model, causal_loss(base, autocast=False), written, steps)

    def theirs() -> list[float]:
        with adapted(base, LORA, 1, None) as model:
            return trl(model, data, steps)

    return {"ours": mine, "trl": theirs}


def seq2seq(data: list[Pair], steps: int) -> dict[str, Callable[[], list[float]]]:
    """Return the two sides of the encoder-decoder comparison."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=32128, d_model=512, d_ff=1024, num_layers=4, num_heads=6, dropout_rate=0.0, decoder_start_token_id=0
    )
    base = T5ForConditionalGeneration(config)

    def mine() -> list[float]:
        model = copy.deepcopy(base)
        return ours(model, seq2seq_loss(model, 0, autocast=False), data, steps)

    return {"ours": mine, "trainer": lambda: hf(copy.deepcopy(base), data, steps)}


def compare(sides: dict[str, Callable[[], list[float]]], repeats: int) -> dict[str, Any]:
    """Assert equal losses, then return CPU seconds of both sides and their ratio."""
    (mine, theirs) = sides
    first = {name: side() for name, side in sides.items()}
    assert len(first[mine]) == len(first[theirs]) > 1
    gap = max(abs(a - b) for a, b in zip(first[mine], first[theirs], strict=True))
    assert gap < 2e-3, first
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            start = time.process_time()
            side()
            seconds[name].append(time.process_time() - start)
    ratios = [b / a for a, b in zip(seconds[mine], seconds[theirs], strict=True)]
    return {
        "losses": {name: [round(x, 4) for x in values] for name, values in first.items()},
        "largest_gap": gap,
        "cpu_seconds": {name: [round(x, 2) for x in values] for name, values in seconds.items()},
        "ratio": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
    }


def main() -> None:
    """Run both comparisons and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    result = {}
    for name, make, vocabulary in (("causal", causal, 49152), ("seq2seq", seq2seq, 32128)):
        found = compare(make(rows(options.rows, vocabulary), options.steps), options.repeats)
        result[name] = found
        print(f"{name}: largest loss gap {found['largest_gap']:.1e} over {options.steps} steps, CPU seconds ", end="")
        print(f"{found['cpu_seconds']}, ratio {found['ratio']['median']:.2f} "
              f"({found['ratio']['min']:.2f} to {found['ratio']['max']:.2f})")  # fmt: skip
    if options.output:
        write_json(options.output, result)


if __name__ == "__main__":
    main()
