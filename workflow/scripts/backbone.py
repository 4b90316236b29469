"""Put a backbone's weights under results/backbones."""

import argparse
from pathlib import Path

from fewtable.backbones import materialise
from fewtable.registry import Registry
from fewtable.script import run


def main() -> str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", required=True, help="name under config/backbones")
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()
    materialise(args.backbone, Registry(Path("config")).backbone(args.backbone), args.output)
    return f"backbone {args.backbone} at {args.output}"


run(main)
