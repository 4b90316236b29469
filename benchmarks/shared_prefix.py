"""Many questions about a passage: its text read once against plain batches and one question at a time.

    python benchmarks/shared_prefix.py [--passages 16] [--types 20] [--rounds 2] [--threads 1] [--device cpu]
                                       [--model FOLDER] [--output FILE.json]

MIT Restaurant's test sentences and CrossNER's passages on artificial intelligence, each asked for twenty types in
UniversalNER's words (types of MIT Restaurant, MIT Movie and CrossNER), fp32, SmolLM2-135M, tuned on one 10-shot draw so
that answers end where a trained model's end. `--model` keeps the adapter in a folder, or takes the one that is there.

Three ways, which must give the same tokens: one question at a time through transformers' generate; batches of 32
questions sorted by length; and ours, where the questions about a passage share what is read of it. CPU and wall
seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from transformers import GenerationConfig

from fewtable.corpus import EntityType, Sentence, build_tasks, read_samples, read_sentences
from fewtable.decoding.greedy import answer
from fewtable.families.base import Fit, Job
from fewtable.files import write_json
from fewtable.plan import Plan
from fewtable.predictions import make_format
from fewtable.registry import Registry, find_module
from fewtable.resolve import Run

SAMPLES = Path("results/samples/mit-restaurant/10-shot/1-3.jsonl")
WEIGHTS = Path("results/backbones/smollm2-135m")
DATA = ("mit-restaurant", "crossner-ai")
RUN = Run("mit-restaurant", "10-shot", "uniner-small-source", "smollm2-135m")
SIZE, LIMIT = 32, 32

Answers = list[list[list[int]]]


def prepare(folder: Path, plan: Plan) -> Any:
    """Return a session whose adapter is in ``folder``, trained if it is not there."""
    spec = plan.run_spec(RUN, "1-1", decode=True).model_copy(update={"dtype": "float32"})
    family = find_module("families", spec.family, spec.method)
    session = family.load(Job(spec=spec, backbone=WEIGHTS, device_batch=16))
    if not folder.exists():
        folder.mkdir(parents=True)
        files = {split: Path(f"results/data/mit-restaurant/{split}.jsonl") for split in ("train", "test")}
        task = build_tasks(read_samples(SAMPLES), files)[0]
        with tempfile.TemporaryDirectory() as checkpoint:
            session.fit(task, Fit(folder, Path(checkpoint) / "c", None, 1, lambda step, **values: None))
    return session


def questions(session: Any, plan: Plan, dataset: str, passages: int, types: int) -> list[list[tuple[int, ...]]]:
    """Return the prompts of each passage."""
    specs = [plan.registry.dataset(name).types for name in ("mit-restaurant", "mit-movie", "crossner-ai")]
    words = list(dict.fromkeys(kind.words for spec in specs for kind in spec.values()))[:types]
    assert len(words) == types, f"only {len(words)} types"
    form = make_format({"name": "uniner"}, [EntityType(w, w, "") for w in words])
    chosen = random.Random(0).sample(read_sentences(Path(f"results/data/{dataset}/test.jsonl")), passages)
    return [[session.prompt(query) for query in form.render(Sentence(s.id, s.words))] for s in chosen]


def sides(model: Any, groups: list[list[tuple[int, ...]]], stop: int) -> dict[str, Callable[[], Answers]]:
    """Return the three ways."""
    settings = GenerationConfig(max_new_tokens=LIMIT, do_sample=False, pad_token_id=stop, eos_token_id=stop)

    def alone(prompt: tuple[int, ...]) -> list[int]:
        ids = torch.tensor([prompt], device=model.device)
        with torch.inference_mode():
            written = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        found: list[int] = written[0, len(prompt) :].tolist()
        return found[:-1] if found[-1] == stop else found

    def batched() -> Answers:
        flat = iter(answer(model, [[p] for group in groups for p in group], SIZE, LIMIT, stop))
        return [[next(flat)[0] for _ in group] for group in groups]

    return {
        "one at a time": lambda: [[alone(prompt) for prompt in group] for group in groups],
        "plain batches": batched,
        "shared": lambda: answer(model, groups, SIZE, LIMIT, stop),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=16)
    parser.add_argument("--types", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not torch.cuda.is_available():
        parser.error("no CUDA device")
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    needed = [SAMPLES, WEIGHTS, *(Path(f"results/data/{name}/test.jsonl") for name in DATA)]
    if missing := [str(path) for path in needed if not path.exists()]:
        snakemake = str(Path(sys.executable).with_name("snakemake"))
        subprocess.run([snakemake, "--cores", "1", "--quiet", "all", "--", *missing], check=True)
    plan = Plan(Registry(Path("config")), {})
    result: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = args.model or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model"
        session = prepare(folder, plan)
        model = stack.enter_context(session.trained(folder))
        for dataset in DATA:
            groups = questions(session, plan, dataset, args.passages, args.types)
            result[dataset] = measure(sides(model, groups, session._dialogue.end), args.rounds, dataset)
    if args.output:
        write_json(args.output, result)
    print(json.dumps(result))


def measure(ways: dict[str, Callable[[], Answers]], rounds: int, title: str) -> dict[str, Any]:
    """Assert equal answers, return seconds and ratios."""
    taken: dict[str, dict[str, list[float]]] = {name: {"cpu": [], "wall": []} for name in ways}
    expected: Answers = []
    for _ in range(rounds):
        for name, side in ways.items():
            cpu, wall = time.process_time(), time.perf_counter()
            answers = side()
            taken[name]["cpu"].append(time.process_time() - cpu)
            taken[name]["wall"].append(time.perf_counter() - wall)
            expected = expected or answers
            assert answers == expected, name
    tokens = sum(len(a) for group in expected for a in group)
    ratios = {}
    for name in ("one at a time", "plain batches"):
        ratios[name] = {
            kind: statistics.median(taken[name][kind]) / statistics.median(taken["shared"][kind])
            for kind in ("cpu", "wall")
        }
        print(f"{title}: shared against {name}: " + ", ".join(f"{k} {v:.2f}x" for k, v in ratios[name].items()))
    return {"questions": sum(map(len, expected)), "answer_tokens": tokens, "seconds": taken, "ratios": ratios}


if __name__ == "__main__":
    main()
