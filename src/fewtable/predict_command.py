"""The command ``fewtable predict``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fewtable.plan import Plan

Action = Callable[[argparse.Namespace], int]


def register(add: Callable[[str, Action, str], argparse.ArgumentParser], plan: Callable[[], Plan]) -> None:
    """Add the command to the command line.

    Args:
        add: adds a command by name, action and help, and returns its parser.
        plan: makes the plan of the folder that the command runs in.
    """

    def run(args: argparse.Namespace) -> int:
        from fewtable.predict import coloured, predict

        types = list(dict.fromkeys(name.strip() for name in args.types.split(",") if name.strip()))
        sentence, entities = predict(plan(), args.run, args.text, types)
        if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
            print(coloured(sentence, entities))
        for entity in entities:
            print(f"{entity.type}\t{sentence.surface(entity.start, entity.end)}\t{entity.start}-{entity.end}")
        if not entities:
            print("no entity found", file=sys.stderr)
        return 0

    parser = add("predict", run, "the entities of your own text, by a run's model; in colour on a terminal")
    parser.add_argument("run", type=Path, help="results/runs/DATASET/SETTING/METHOD/BACKBONE/BLOCK")
    parser.add_argument("text")
    parser.add_argument("--types", default="", help="what to ask for, separated by commas; else what the run learned")
