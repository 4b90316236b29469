"""Put the scores of a run's blocks together."""

import argparse
import json
from pathlib import Path

from fewtable.corpus import read_samples
from fewtable.files import read_json, write_json
from fewtable.scoring.cell import build_cell
from fewtable.script import run


def main() -> str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads, help="names, blocks and resolved spec as JSON")
    parser.add_argument("--scores", nargs="+", required=True, type=Path)
    parser.add_argument("--samples", nargs="+", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()
    samples = [sample for path in args.samples for sample in read_samples(path)]
    cell = build_cell(args.spec, samples, [read_json(path) for path in args.scores])
    write_json(args.output, cell.model_dump(mode="json"))
    f1 = cell.metrics["strict.f1"]
    return f"put {f1.n} draws together: strict F1 {f1.mean:.2f}"


run(main)
