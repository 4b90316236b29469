"""Write the report over all tables: one self-contained HTML file."""

import argparse
import json
from pathlib import Path

from fewtable.files import write_text
from fewtable.report import build_report
from fewtable.script import run


def main() -> str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads, help="the plan's params of the report, as JSON")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()
    tables = [json.loads(params) for params in args.spec["tables"].values()]
    page = build_report(tables, args.results)
    write_text(args.output, page)
    return f"report on {len(tables)} tables, {len(page) / 1e6:.2f} MB"


run(main)
