"""Train every draw of a block."""

import argparse
from pathlib import Path

from fewtable.corpus import build_tasks, read_samples
from fewtable.runner import read_spec, train_block
from fewtable.script import run
from fewtable.training.parallel import launch


def main() -> str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=read_spec, help="the resolved spec: JSON or a file of it")
    parser.add_argument("--data", nargs="+", type=Path, required=True, help="data files, one a split")
    for name in ("samples", "backbone", "output", "checkpoint"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--init", nargs="?", type=Path, help="model folder to start from")
    parser.add_argument("--device-batch", type=int, default=16)
    parser.add_argument("--gradient-checkpointing", type=int, default=0, choices=(0, 1))
    parser.add_argument("--processes", type=int, default=1, help="GPUs that train together")
    args = parser.parse_args()
    launch(args.processes)
    tasks = build_tasks(read_samples(args.samples), {path.stem: path for path in args.data})
    given = ("backbone", "init", "output", "checkpoint", "device_batch", "gradient_checkpointing")
    train_block(args.spec, tasks, **{name: getattr(args, name) for name in given})
    return f"trained {args.spec.method} on {len(tasks)} draws of {args.spec.dataset} {args.spec.setting}"


run(main)
