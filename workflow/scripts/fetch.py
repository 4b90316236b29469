"""Fetch and verify one raw file of a dataset."""

import argparse
from pathlib import Path

from fewtable.data.fetch import fetch_file
from fewtable.registry import Registry, read_yaml, user_config
from fewtable.script import run


def main() -> str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--file", required=True)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--user", default="config/config.yaml", type=Path, help="the user's config")
    args = parser.parse_args()
    user = user_config(read_yaml(args.user), str(args.user))
    spec = Registry(Path("config")).dataset(args.dataset)
    got = fetch_file(args.dataset, spec, args.file, args.output, user)
    return f"fetched {args.dataset}/{args.file}, {got.size:,} bytes, from {got.source}"


run(main)
