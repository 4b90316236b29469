"""Normalise the raw files of a split to sentences."""

import argparse
from pathlib import Path

from fewtable.corpus import write_sentences
from fewtable.data.normalise import normalise
from fewtable.registry import Registry
from fewtable.script import run


def main() -> str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--raw", required=True, type=Path, help="folder of the dataset's raw files")
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--config", default="config/config.yaml", type=Path)
    args = parser.parse_args()
    spec = Registry(args.config.parent).dataset(args.dataset)
    files = {name: path for name in spec.files if (path := args.raw / name).exists()}
    count = write_sentences(args.output, normalise(args.dataset, spec, args.split, files))
    return f"normalised {count:,} sentences of {args.dataset} {args.split}"


run(main)
