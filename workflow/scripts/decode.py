"""Decode the query sentences of every draw of a block."""

import argparse
from pathlib import Path

from fewtable.corpus import build_tasks, read_samples
from fewtable.runner import decode_block, read_spec
from fewtable.script import run


def main() -> str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=read_spec, help="the resolved spec: JSON or a file of it")
    parser.add_argument("--samples", required=True, type=Path)
    parser.add_argument("--data", nargs="+", type=Path, required=True, help="data files, one a split")
    parser.add_argument("--backbone", required=True, type=Path)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--checkpoint", required=True, type=Path)
    args = parser.parse_args()
    tasks = build_tasks(read_samples(args.samples), {path.stem: path for path in args.data})
    count = decode_block(args.spec, tasks, **{name: getattr(args, name) for name in PASSED})
    return f"decoded {count} sentences with {args.spec.method} on {args.spec.dataset} {args.spec.setting}"


PASSED = ("backbone", "model", "output", "checkpoint")
run(main)
