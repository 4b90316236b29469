"""Draw cells as a figure: SVG and PNG, with the numbers as CSV."""

import argparse
import json
from pathlib import Path

from fewtable.figures import draw, from_params, render_csv
from fewtable.files import write_bytes, write_text
from fewtable.script import run


def main() -> str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads, help="the plan's params of the figure, as JSON")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where the cells are")
    parser.add_argument("--output", required=True, type=Path, help="path without suffix: results/PAPER/figure3")
    args = parser.parse_args()
    figure = from_params(args.spec, args.results)
    write_text(args.output.with_name(f"{args.output.name}.csv"), render_csv(figure))
    for form in ("svg", "png"):
        write_bytes(args.output.with_name(f"{args.output.name}.{form}"), draw(figure, form))
    there = sum(mark.value is not None for mark in figure.marks)
    return f"figure {figure.name}: {there} of {len(figure.marks)} numbers"


run(main)
