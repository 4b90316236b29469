"""Draw the passages of a corpus from its raw text."""

import argparse
from pathlib import Path

from fewtable.passages.build import build, counter, read_passages_job, write
from fewtable.script import run


def main() -> str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=read_passages_job, help="the resolved spec, as JSON")
    parser.add_argument("--data", required=True, type=Path, help="folder with the datasets' folders of splits")
    parser.add_argument("--backbone", nargs="?", type=Path, help="folder of the backbone whose tokens are counted")
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()
    passages, tally = build(args.spec, args.data, counter(args.spec, args.backbone))
    write(args.output, passages, tally)
    return f"drew {tally['kept']:,} of {tally['passages']:,} passages from {tally['documents']:,} documents"


run(main)
