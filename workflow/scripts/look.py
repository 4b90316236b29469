"""Look into the models of two runs, and write what was measured."""

import argparse
import json
from pathlib import Path

from fewtable.files import write_json
from fewtable.registry import validate
from fewtable.script import run
from fewtable.views.look import look
from fewtable.views.spec import LookSpec


def main() -> str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads, help="the plan's params of the view, as JSON")
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()
    spec = validate(LookSpec, args.spec, "--spec")
    write_json(args.output, look(spec))
    return f"looked into {sum(len(one.models) for one in spec.looks.values())} models"


run(main)
