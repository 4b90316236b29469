"""Count datasets as a table of statistics: CSV, Markdown, LaTeX and HTML."""

import argparse
import json
from pathlib import Path

from fewtable.files import write_text
from fewtable.script import run
from fewtable.tables.statistics import from_params, render_csv
from fewtable.tables.statistics_forms import render_html, render_md, render_tex

RENDER = {"csv": render_csv, "md": render_md, "tex": render_tex, "html": render_html}


def main() -> str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads, help="the plan's params of the table, as JSON")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where the data is")
    parser.add_argument("--output", required=True, type=Path, help="path without suffix: results/PAPER/table4")
    args = parser.parse_args()
    table = from_params(args.spec, args.results)
    for suffix, render in RENDER.items():
        write_text(args.output.with_name(f"{args.output.name}.{suffix}"), render(table))
    there = sum(count.value is not None for count in table.counts.values())
    return f"statistics {table.name}: {there} of {len(table.counts)} counts"


run(main)
