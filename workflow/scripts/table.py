"""Lay cells out as a table: CSV, Markdown, LaTeX and HTML."""

import argparse
import json
from pathlib import Path

from fewtable.files import write_text
from fewtable.script import run
from fewtable.tables import from_params, read_cells, render_csv, render_html, render_md, render_tex

RENDER = {"csv": render_csv, "md": render_md, "tex": render_tex, "html": render_html}


def main() -> str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads, help="the plan's params of the table, as JSON")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where cells and scores are")
    parser.add_argument("--output", required=True, type=Path, help="path without suffix: results/demo")
    args = parser.parse_args()
    table = from_params(args.spec, read_cells(args.spec, args.results).values(), args.results)
    for suffix, render in RENDER.items():
        write_text(args.output.with_name(f"{args.output.name}.{suffix}"), render(table))
    there = sum(entry.status == "ok" for entry in table.entries.values())
    return f"table {table.name}: {there} of {len(table.entries)} cells"


run(main)
