"""Generation in length-sorted batches, and drafts copied from the prompt: equal tokens asserted, then time.

    python benchmarks/decoding.py [--sentences 32] [--rounds 2] [--threads 1] [--device cpu] [--model FOLDER]
                                  [--parts batches copying] [--sizes 1 8 32] [--output FILE.json]

MIT Restaurant's test sentences in InstructionNER's words, fp32, on two models:

- SmolLM2-135M, trained on one 10-shot draw as `instructionner-causal` is, so that answers end where a trained
  model's end. `--model` keeps the trained adapter in a folder, or takes the one that is there.
- A random T5 of t5-small's shape. It would write on to the last allowed token, so each answer ends at the length of its
  sentence's gold answer; the tokens before that are the model's own. SmolLM2's tokens, folded into T5's vocabulary.

`batches` takes each method's own batch and beams, against one sentence at a time through transformers' generate.

`copying` guesses that the answer goes on as the prompt, or the answer so far, went on after the same two tokens (or
one), and checks all guessed tokens of a batch in one forward (prompt lookup). transformers does so for one prompt at a
time only; its own way is measured there too. Sentences that are done leave the batch, which transformers does not do:
"no guesses" is that alone. All sides are greedy.

The first round of all sides is compared before any figure is printed. CPU seconds of the process, and wall seconds.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from transformers import DynamicCache, GenerationConfig, LogitsProcessor, LogitsProcessorList

from fewtable.corpus import Task, build_tasks, read_samples, read_sentences
from fewtable.decoding.generate import Generation, generate, layout, pad
from fewtable.decoding.greedy import answer
from fewtable.families.base import Fit, Job
from fewtable.files import stable_seed, write_json
from fewtable.plan import Plan
from fewtable.predictions import entity_types, make_format
from fewtable.registry import Registry, find_module
from fewtable.resolve import Run
from fewtable.specs import RunSpec

DATASET, SETTING, BACKBONE = "mit-restaurant", "10-shot", "smollm2-135m"
SAMPLES = Path(f"results/samples/{DATASET}/{SETTING}/1-3.jsonl")
WEIGHTS = Path(f"results/backbones/{BACKBONE}")
STOP, VOCABULARY = 1, 32128  # T5's
DRAFT = 3
"""Tokens guessed at once. For gold answers, three more save under 3% of the forwards and double the guesses."""

Ids = tuple[int, ...]
Answers = dict[Ids, Ids]
"""Prompt -> answer, without its end token."""
Side = Callable[[], Answers]


# --- models ---------------------------------------------------------------------------------------------


class Lengths(LogitsProcessor):
    """End each answer at its length, and not before."""

    def __init__(self, lengths: Sequence[int], beams: int) -> None:
        self._lengths = torch.tensor(lengths).repeat_interleave(beams)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Leave the end token as the only choice, or all others."""
        number = input_ids.shape[1]  # of the token to come: the start token stands there already
        ending = (self._lengths.to(scores.device) <= number)[:, None]
        is_stop = torch.zeros_like(scores, dtype=torch.bool)
        is_stop[:, STOP] = True
        return scores.masked_fill(is_stop != ending, float("-inf"))


class Watched:
    """A model whose answers are kept. ``lengths``: prompt -> tokens to write, the end token among them."""

    def __init__(self, model: Any, stop: int, lengths: dict[Ids, int] | None = None) -> None:
        self.inner, self._stop, self._lengths = model, stop, lengths
        self.config, self.generation_config, self.device = model.config, model.generation_config, model.device
        self.answers: Answers = {}

    def generate(self, input_ids: Any, attention_mask: Any, generation_config: Any, **more: Any) -> Any:
        """Generate as the model does."""
        prompts = [tuple(row[mask.bool()].tolist()) for row, mask in zip(input_ids, attention_mask, strict=True)]
        if self._lengths:
            limits = Lengths([self._lengths[prompt] for prompt in prompts], generation_config.num_beams)
            more["logits_processor"] = LogitsProcessorList([limits])
        written = self.inner.generate(
            input_ids=input_ids, attention_mask=attention_mask, generation_config=generation_config, **more
        )
        start = 1 if self.config.is_encoder_decoder else input_ids.shape[1]
        for prompt, row in zip(prompts, written[:, start:].tolist(), strict=True):
            self.answers[prompt] = tuple(row[: row.index(self._stop)] if self._stop in row else row)
        return written


def resolved(method: str, backbone: str) -> RunSpec:
    """Return the spec of a decoding job, in fp32."""
    plan = Plan(Registry(Path("config")), {})
    spec = plan.run_spec(Run(DATASET, SETTING, method, backbone), "1-1", decode=True)
    return spec.model_copy(update={"dtype": "float32"})


def smollm2(folder: Path, sentences: int) -> tuple[Any, list[Ids], Generation, int]:
    """Return session, prompts, options and end token of SmolLM2, trained if ``folder`` is not there."""
    spec = resolved("instructionner-causal", BACKBONE)
    files = {split: Path(f"results/data/{DATASET}/{split}.jsonl") for split in ("train", "test")}
    task: Task = build_tasks(read_samples(SAMPLES), files)[0]
    family = find_module("families", spec.family, spec.method)
    session = family.load(Job(spec=spec, backbone=WEIGHTS, device_batch=16))
    if not folder.exists():
        folder.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as checkpoint:
            seed = stable_seed("train", DATASET, SETTING, spec.method, BACKBONE, 1)
            session.fit(task, Fit(folder, Path(checkpoint) / "c", None, seed, lambda step, **values: None))
    chosen = random.Random(0).sample(read_sentences(files["test"]), sentences)
    form = make_format(spec.format, entity_types(spec.types))
    prompts = [session.prompt(form.render(sentence)[0]) for sentence in chosen]
    return session, prompts, family.Decode.model_validate(spec.decoding), session._dialogue.end


def t5(tokenizer: Any, sentences: int, device: str) -> tuple[Watched, list[Ids], Generation]:
    """Return a random T5 with answers of real lengths, its prompts and options."""
    spec = resolved("instructionner", "t5-base")
    form = make_format(spec.format, entity_types(spec.types))
    chosen = random.Random(0).sample(read_sentences(Path(f"results/data/{DATASET}/test.jsonl")), sentences)
    lengths = {}
    for example in (form.render(sentence)[0] for sentence in chosen):
        prompt, answer = (tokenizer(text)["input_ids"] for text in (example.prompt, example.target))
        lengths[(*(3 + i % (VOCABULARY - 3) for i in prompt), STOP)] = len(answer) + 1
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=512,
        d_kv=64,
        d_ff=2048,
        num_layers=6,
        num_heads=8,
        decoder_start_token_id=0,
        attn_implementation="eager",
    )
    model = transformers.T5ForConditionalGeneration(config).eval().to(device)
    family = find_module("families", spec.family, spec.method)
    return Watched(model, STOP, lengths), list(lengths), family.Decode.model_validate(spec.decoding)


# --- copying --------------------------------------------------------------------------------------------


def lookup(ids: Sequence[int], most: int) -> list[int]:
    """Return the ``most`` ids after the last earlier occurrence of the last two ids, else of the last one."""
    for size in (2, 1):
        tail = list(ids[-size:])
        for start in range(len(ids) - size - 1, -1, -1):
            if list(ids[start : start + size]) == tail:
                return list(ids[start + size : start + size + most])
    return []


def copying(model: Any, prompts: Sequence[Ids], limit: int, stop: int, guesses: int) -> list[Ids]:
    """Return greedy answers to one batch of prompts; guessed tokens are checked in one forward.

    Rows take different numbers of guesses: each has positions of its own, and refused guesses are masked in the cache.
    """
    ids, mask = (t.to(model.device) for t in pad(prompts, stop, left=True))
    cache = DynamicCache(config=model.config)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    out = model(ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1)
    written = [[int(token)] for token in out.logits[:, -1].argmax(-1)]
    rows = list(range(len(prompts)))  # those that go on, in the order of the cache
    while True:
        going = [i for i, row in enumerate(rows) if written[row][-1] != stop and len(written[row]) < limit]
        if not going:
            return [tuple(answer[:-1] if answer[-1] == stop else answer) for answer in written]
        if len(going) < len(rows):
            rows, mask = [rows[i] for i in going], mask[going]
            cache.batch_select_indices(torch.tensor(going, device=model.device))
        drafts = [lookup([*prompts[r], *written[r]], min(guesses, limit - len(written[r]) - 1)) for r in rows]
        new, real = pad([[written[r][-1], *draft] for r, draft in zip(rows, drafts, strict=True)], stop, left=False)
        new, real = new.to(model.device), real.to(model.device)
        positions = mask.sum(1, keepdim=True) + torch.arange(new.shape[1], device=model.device)
        seen = torch.cat([mask, real], 1)
        best = model(new, attention_mask=seen, position_ids=positions, past_key_values=cache).logits.argmax(-1).tolist()
        taken = []
        for row, draft, picks in zip(rows, drafts, best, strict=True):
            right = next((i for i, token in enumerate(draft) if token != picks[i]), len(draft))
            fresh = picks[: right + 1]
            written[row] += fresh[: fresh.index(stop) + 1] if stop in fresh else fresh
            taken.append(right + 1)
        kept = torch.arange(new.shape[1], device=model.device) < torch.tensor(taken, device=model.device)[:, None]
        cache.crop(max(taken) - new.shape[1])
        mask = torch.cat([mask, kept.long()], 1)[:, : mask.shape[1] + max(taken)]


# --- measuring ------------------------------------------------------------------------------------------


def compare(sides: dict[str, Side], rounds: int) -> dict[str, Any]:
    """Run all sides in turn; assert equal tokens in the first round; return seconds by side."""
    taken: dict[str, dict[str, list[float]]] = {name: {"cpu": [], "wall": []} for name in sides}
    expected: Answers = {}
    for _ in range(rounds):
        for name, side in sides.items():
            cpu, wall = time.process_time(), time.perf_counter()
            answers = side()
            taken[name]["cpu"].append(time.process_time() - cpu)
            taken[name]["wall"].append(time.perf_counter() - wall)
            expected = expected or answers
            assert answers == expected, name
    tokens = sum(map(len, expected.values()))
    return {"answers": len(expected), "tokens": tokens, "seconds": taken}


def report(title: str, found: dict[str, Any], slow: str, fast: str) -> None:
    """Print and keep the ratio of two sides."""
    line = f"{title}: {fast} against {slow}, {found['answers']} answers of {found['tokens']} tokens in all"
    for kind in ("cpu", "wall"):
        a, b = (found["seconds"][side][kind] for side in (slow, fast))
        ratio = {"min": min(a) / min(b), "median": statistics.median(a) / statistics.median(b)}
        found.setdefault("ratios", {}).setdefault(fast, {})[kind] = ratio
        line += f", {kind} {min(a):.1f} / {min(b):.1f} s = {ratio['min']:.2f}x (median {ratio['median']:.2f}x)"
    print(line, flush=True)


def through_generate(
    model: Any, tokenizer: Any, prompts: Sequence[Ids], options: Generation, stop: int
) -> Callable[[int], Side]:
    """Return batch size -> side."""

    def make(size: int) -> Side:
        def side() -> Answers:
            model.answers = {}
            generate(model, tokenizer, prompts, options.model_copy(update={"batch_size": size}), (stop,))
            answers: Answers = model.answers
            return answers

        return side

    return make


def through_greedy(model: Any, prompts: Sequence[Ids], options: Generation, stop: int) -> Callable[[int], Side]:
    """Return batch size -> side; sentences that are done leave their batch."""

    def make(size: int) -> Side:
        def side() -> Answers:
            found = answer(model, [[prompt] for prompt in prompts], size, options.max_new_tokens, stop)
            return {prompt: tuple(ids) for prompt, (ids,) in zip(prompts, found, strict=True)}

        return side

    return make


def batches(
    title: str, model: Watched, tokenizer: Any, prompts: Sequence[Ids], options: Generation, stop: int, rounds: int
) -> dict[str, Any]:
    """Measure the method's own batches, and twice as large ones, against one sentence at a time."""
    plain = through_generate(model, tokenizer, prompts, options, stop)
    ours = plain if model.config.is_encoder_decoder else through_greedy(model.inner, prompts, options, stop)
    own = options.batch_size
    sides = {"one at a time": plain(1), f"batches of {own}": ours(own)}
    if 2 * own <= len(prompts):
        sides[f"batches of {2 * own}"] = ours(2 * own)
    found = compare(sides, rounds)
    for name in list(sides)[1:]:
        report(f"{title}, beams {options.beams}", found, "one at a time", name)
    return found


def copying_sides(
    model: Any, tokenizer: Any, prompts: Sequence[Ids], options: Generation, stop: int, size: int
) -> dict[str, Side]:
    """Return plain, the loop of copying without guesses and with them, and transformers' own lookup at batch 1."""

    def ours(guesses: int) -> Answers:
        answers: Answers = {}
        with torch.inference_mode():
            for batch in layout([len(p) for p in prompts], size):
                chosen = [prompts[i] for i in batch]
                answers |= zip(chosen, copying(model, chosen, options.max_new_tokens, stop, guesses), strict=True)
        return answers

    def theirs() -> Answers:
        watched = Watched(model, stop)
        settings = GenerationConfig(
            max_new_tokens=options.max_new_tokens, do_sample=False, pad_token_id=stop, eos_token_id=stop,
            prompt_lookup_num_tokens=DRAFT, max_matching_ngram_size=2,
        )  # fmt: skip
        with torch.inference_mode():
            for prompt in prompts:
                ids = torch.tensor([prompt], device=model.device)
                watched.generate(ids, torch.ones_like(ids), settings)
        return watched.answers

    plain = through_generate(Watched(model, stop), tokenizer, prompts, options, stop)(size)
    sides = {"plain": plain, "no guesses": lambda: ours(0), "copying": lambda: ours(DRAFT)}
    return sides | {"transformers' lookup": theirs} if size == 1 else sides


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--parts", nargs="+", choices=("batches", "copying"), default=("batches", "copying"))
    parser.add_argument("--sizes", nargs="+", type=int, default=(1, 8, 32), help="batches of part copying")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not torch.cuda.is_available():
        parser.error("no CUDA device")
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    if missing := [str(path) for path in (SAMPLES, WEIGHTS) if not path.exists()]:
        snakemake = str(Path(sys.executable).with_name("snakemake"))
        subprocess.run([snakemake, "--cores", "1", "--quiet", "all", "--", *missing], check=True)
    result: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = args.model or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model"
        session, prompts, options, stop = smollm2(folder, args.sentences)
        model, tokenizer = stack.enter_context(session.trained(folder)), session.tokenizer
        if "batches" in args.parts:
            plain = Watched(model, stop)
            result["SmolLM2"] = batches("SmolLM2", plain, tokenizer, prompts, options, stop, args.rounds)
            random_t5, t5_prompts, t5_options = t5(tokenizer, args.sentences, args.device)
            result["T5"] = batches("T5", random_t5, tokenizer, t5_prompts, t5_options, STOP, args.rounds)
        for size in args.sizes if "copying" in args.parts else ():
            sides = copying_sides(model, tokenizer, prompts, options, stop, size)
            found = result[f"copying, batch {size}"] = compare(sides, args.rounds)
            for name in list(sides)[1:]:
                report(f"SmolLM2, batch {size}", found, "plain", name)
    if args.output:
        write_json(args.output, result)


if __name__ == "__main__":
    main()
