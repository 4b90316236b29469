"""A block of three draws in one job against a job a draw: equal models and answers first, then time.

    python benchmarks/blocks.py [--rounds 2] [--output FILE.json] [--runs METHOD/BACKBONE ...]

MIT Restaurant, 10-shot, 300 test sentences. A job is a whole process, started as the rules `train` and `decode` start
it: Python, imports, weights, work, files. Runs are interleaved; wall seconds beside CPU seconds of the processes, for
others may use the machine. What is missing under results/ (data, backbones) is made first by Snakemake.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fewtable.corpus import Sample, read_samples, write_samples
from fewtable.files import read_jsonl, sha256_file, write_json
from fewtable.plan import Plan
from fewtable.registry import Registry
from fewtable.resolve import Run

DATASET, SETTING, DRAWS = "mit-restaurant", "10-shot-300", (1, 2, 3)
SAMPLES = Path(f"results/samples/{DATASET}/{SETTING}/1-3.jsonl")
RUNS = ("nnshot/minilm", "lc-bert/tiny-bert", "lc-bert/minilm")
Seconds = tuple[float, float]
"""CPU and wall seconds."""


class Jobs:
    """The train and decode jobs of one run."""

    def __init__(self, plan: Plan, run: Run, folder: Path) -> None:
        self._plan, self._run, self._folder = plan, run, folder
        self._samples = read_samples(SAMPLES)

    def one(self) -> Seconds:
        """Run one job for all draws."""
        return self._block("block", self._samples)

    def three(self) -> Seconds:
        """Run a job for each draw."""
        taken = [self._block(str(sample.draw), [sample]) for sample in self._samples]
        return sum(cpu for cpu, _ in taken), sum(wall for _, wall in taken)

    def check(self) -> None:
        """Assert that both ways gave the same bytes of each model and the same answers."""
        block = self._folder / "block"
        for draw in DRAWS:
            single = self._folder / str(draw) / "model" / str(draw)
            files = sorted(path.relative_to(single) for path in single.rglob("*") if path.is_file())
            assert files, single
            for file in files:
                assert sha256_file(single / file) == sha256_file(block / "model" / str(draw) / file), file
        alone = [row for draw in DRAWS for _, row in read_jsonl(self._folder / str(draw) / "outputs.jsonl")]
        assert alone == [row for _, row in read_jsonl(block / "outputs.jsonl")]
        assert len(alone) == 300 * len(DRAWS)

    def _block(self, name: str, samples: list[Sample]) -> Seconds:
        folder = self._folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_samples(folder / "samples.jsonl", samples)
        # --spec takes JSON or a file of it; the code fingerprint of the plan stands in it as in a job's own.
        first, last = samples[0].draw, samples[-1].draw
        taken = [
            self._job("train", folder, f"{first}-{last}", "--output", str(folder / "model")),
            self._job(
                "decode", folder, f"{first}-{last}",
                "--model", str(folder / "model"), "--output", str(folder / "outputs.jsonl"),
            ),
        ]  # fmt: skip
        return sum(cpu for cpu, _ in taken), sum(wall for _, wall in taken)

    def _job(self, stage: str, folder: Path, block: str, *arguments: str) -> Seconds:
        run = self._run
        command = [
            sys.executable, f"workflow/scripts/{stage}.py",
            "--spec", self._plan.run_params(run, block, decode=stage == "decode"),
            "--samples", str(folder / "samples.jsonl"),
            "--data", *self._plan.data_files(run.dataset, run.setting).values(),
            "--backbone", f"results/backbones/{run.backbone}",
            "--checkpoint", str(folder / f"{stage}.checkpoint"),
            *arguments,
        ]  # fmt: skip
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # as Snakemake sets it for a job of one thread
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall


def compare(jobs: Jobs, rounds: int) -> dict[str, Any]:
    """Run both ways in turn, results compared each time; return seconds and the ratios of minima and medians."""
    taken: dict[str, list[Seconds]] = {"one job": [], "three jobs": []}
    for _ in range(rounds):
        taken["three jobs"].append(jobs.three())
        taken["one job"].append(jobs.one())
        jobs.check()
    found: dict[str, Any] = {}
    for place, kind in enumerate(("cpu", "wall")):
        seconds = {side: [pair[place] for pair in pairs] for side, pairs in taken.items()}
        found[kind] = {
            "seconds": seconds,
            "min": min(seconds["three jobs"]) / min(seconds["one job"]),
            "median": statistics.median(seconds["three jobs"]) / statistics.median(seconds["one job"]),
        }
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--runs", nargs="+", default=RUNS, metavar="METHOD/BACKBONE")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    runs = [Run(DATASET, SETTING, *name.split("/")) for name in args.runs]
    wanted = [str(SAMPLES), *(f"results/backbones/{run.backbone}" for run in runs)]
    if missing := [path for path in dict.fromkeys(wanted) if not Path(path).exists()]:
        snakemake = str(Path(sys.executable).with_name("snakemake"))
        subprocess.run([snakemake, "--cores", "1", "--quiet", "all", "--", *missing], check=True)
    plan, result = Plan(Registry(Path("config")), {}), {}
    for run in runs:
        with tempfile.TemporaryDirectory() as folder:
            found = result[f"{run.method}/{run.backbone}"] = compare(Jobs(plan, run, Path(folder)), args.rounds)
        print(f"{run.method} on {run.backbone}: three jobs against one", end="")
        for kind, values in found.items():
            one, three = (min(values["seconds"][side]) for side in ("one job", "three jobs"))
            print(f", {kind} {three:.1f} / {one:.1f} s = {values['min']:.2f}x (median {values['median']:.2f}x)", end="")
        print(flush=True)
    if args.output:
        write_json(args.output, result)


if __name__ == "__main__":
    main()
