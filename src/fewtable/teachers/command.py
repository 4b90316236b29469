"""The command ``fewtable annotate``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from fewtable.errors import DataError

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
        from fewtable.teachers.annotate import Places, annotate, estimate, summary_line

        registry = plan().registry
        spec, places = registry.teacher(args.teacher), Places.of(args.teacher, args.corpus)
        registry.corpus(args.corpus)
        if not places.passages.exists():
            raise DataError(
                "the corpus has no passages yet",
                where=str(places.passages),
                fix=f"snakemake --cores 1 {places.passages}",
            )
        print(estimate(spec, places).render() if args.estimate else summary_line(annotate(spec, places)))
        return 0

    parser = add("annotate", run, "have a teacher annotate a corpus; goes on where it was stopped")
    parser.add_argument("teacher", help="a name under config/teachers")
    parser.add_argument("corpus", help="a name under config/corpora")
    parser.add_argument("--estimate", action="store_true", help="requests, tokens and price, without a call")
