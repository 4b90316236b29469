"""Read the entities out of a block's outputs and score them against the gold query sentences."""

import argparse
import json
from pathlib import Path

from fewtable.corpus import build_tasks, read_samples
from fewtable.files import write_json
from fewtable.predictions import entity_types, parse_outputs, raw_answers, read_predictions
from fewtable.scoring.block import score_block
from fewtable.script import run


def main() -> str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads, help="format and types as JSON")
    parser.add_argument("--samples", required=True, type=Path)
    parser.add_argument("--data", nargs="+", required=True, type=Path, help="data files, one a split")
    parser.add_argument("--outputs", required=True, type=Path, help="what the model wrote")
    parser.add_argument("--predictions", required=True, type=Path, help="where the entities go")
    parser.add_argument("--scores", required=True, type=Path, help="where the counts go")
    args = parser.parse_args()
    tasks = build_tasks(read_samples(args.samples), {path.stem: path for path in args.data})
    types = entity_types(args.spec["types"])
    count = parse_outputs(args.outputs, tasks, args.spec["format"], types, args.predictions)
    answers = raw_answers(args.outputs, tasks, args.spec["format"], types)
    write_json(args.scores, score_block(tasks, read_predictions(args.predictions), answers))
    return f"parsed and scored {count} outputs"


run(main)
