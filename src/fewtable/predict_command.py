"""The command ``fewtable predict``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fewtable.errors import ConfigError

if TYPE_CHECKING:
    from fewtable.plan import Plan

EPILOG = """a line an entity: its type, its text, its words (from, up to); what could not be read is said on stderr
examples:
  fewtable predict mit-movie/zero-shot/uniner-small/smollm2-135m "who starred in jaws" --types "actor, title"
  fewtable predict results/runs/wnut16-demo/5-shot/lc-bert/minilm/1-3/model/2 "Rome!"       the second draw's model"""

Action = Callable[[argparse.Namespace], int]


def register(add: Callable[[str, Action, str], argparse.ArgumentParser], plan: Callable[[], Plan]) -> None:
    """Add the command to the command line.

    Args:
        add: adds a command by name, action and help, and returns its parser.
        plan: makes the plan of the folder that the command runs in.
    """

    def run(args: argparse.Namespace) -> int:
        from fewtable.predict import coloured, predict

        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # peft's use of it, not ours
        types = [] if args.types is None else type_names(args.types)
        sentence, read = predict(plan(), args.run, args.text, types)
        entities = read.entities
        if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
            print(coloured(sentence, entities))
        for entity in entities:
            print(f"{entity.type}\t{sentence.surface(entity.start, entity.end)}\t{entity.start}-{entity.end}")
        unread = [dropped for dropped in read.dropped if dropped.cause == "unparsed"]
        if unread:
            hint = "" if args.raw else " (--raw shows what the model wrote)"
            print(f"{len(unread)} answer{'s' * (len(unread) > 1)} could not be read{hint}", file=sys.stderr)
        elif not entities:
            print("no entity found", file=sys.stderr)
        for dropped in unread if args.raw else ():
            print(f"{dropped.type}\t{dropped.text!r}".strip(), file=sys.stderr)
        return 0

    parser = add("predict", run, "the entities of your own text, by a run's model; in colour on a terminal")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "run", type=Path, help="DATASET/SETTING/METHOD/BACKBONE, or the folder of a run, its model or one draw's model"
    )
    parser.add_argument("text", help="one sentence or passage, in quotes")
    parser.add_argument(
        "--types", help="what to ask for, in words, separated by commas; else the types that the run learned"
    )
    parser.add_argument("--raw", action="store_true", help="show the answers that could not be read, on stderr")


def type_names(text: str) -> list[str]:
    """Return the names in a list that is separated by commas, each once; raise ConfigError where there is none."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ConfigError("no type is named", where="--types", fix="name some: --types 'person, place'")
    return names
