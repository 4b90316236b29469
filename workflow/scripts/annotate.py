"""Have a teacher annotate a corpus; what its journal answers is not asked again."""

import argparse
from pathlib import Path

from fewtable.registry import Registry
from fewtable.script import run
from fewtable.teachers.annotate import Places, annotate, summary_line


def main() -> str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--results", type=Path, default=Path("results"), help="where passages and journal are")
    args = parser.parse_args()
    spec = Registry(Path("config")).teacher(args.teacher)
    summary = annotate(spec, Places.of(args.teacher, args.corpus, args.results))
    return f"annotated {args.corpus} by {args.teacher}: {summary_line(summary)}"


run(main)
