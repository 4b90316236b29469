"""Log a finished cell, and all others that wait, in MLflow. Exits 0 when the store is down (DESIGN §6)."""

import argparse
from pathlib import Path

from fewtable.plan import Plan
from fewtable.registry import Registry, read_yaml, user_config
from fewtable.script import run
from fewtable.tracking import labels, track_cell


def main() -> str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", type=Path, required=True, help="results/cells/DATASET/SETTING/METHOD/BACKBONE.json")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--user", default="config/config.yaml", type=Path, help="the user's config")
    args = parser.parse_args()
    key = args.cell.relative_to(args.results / "cells").as_posix().removesuffix(".json")
    user = user_config(read_yaml(args.user), str(args.user))
    tags = labels(Plan(Registry(Path("config")), {}))
    return track_cell(args.results, key, args.output, user.tracking, tags).summary()


run(main)
