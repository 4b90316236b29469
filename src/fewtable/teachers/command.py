"""The command ``fewtable annotate``: it looks at the passages, then has Snakemake make the annotation's files.

Only Snakemake writes them, so that it knows what they were made from and sees when they are stale.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fewtable.errors import DataError
from fewtable.files import read_json

if TYPE_CHECKING:
    from fewtable.plan import Plan
    from fewtable.teachers.annotate import Places

Action = Callable[[argparse.Namespace], int]


def register(add: Callable[[str, Action, str], argparse.ArgumentParser], plan: Callable[[], Plan]) -> None:
    """Add the command to the command line.

    Args:
        add: adds a command by name, action and help, and returns its parser.
        plan: makes the plan of the folder that the command runs in.
    """

    def run(args: argparse.Namespace) -> int:
        from fewtable.teachers.annotate import Places, estimate, summary_line

        registry = plan().registry
        spec, places = registry.teacher(args.teacher), Places.of(args.teacher, args.corpus)
        registry.corpus(args.corpus)
        _check_passages(places.passages)
        if args.estimate:
            print(estimate(spec, places).render())
            return 0
        target = [str(places.output / "annotations.jsonl"), "--quiet", "all"]
        forced = ["--forcerun", "annotate"] if args.retry_refused and _forget_refused(places) else []
        done = subprocess.run(_snakemake(*target, *forced), stdout=sys.stderr, check=False)
        if done.returncode:
            return 1
        print(summary_line(read_json(places.output / "summary.json")))
        return 0

    parser = add("annotate", run, "have a teacher annotate a corpus; goes on where it was stopped")
    parser.add_argument("teacher", help="a name under config/teachers")
    parser.add_argument("corpus", help="a name under config/corpora")
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--estimate", action="store_true", help="requests, tokens and price, without a call")
    one.add_argument("--retry-refused", action="store_true", help="ask what was refused or failed once more")


def _check_passages(path: Path) -> None:
    """Raise DataError unless the passages are there, and are those of their YAML, of their sources and of the code."""
    mend = f"snakemake --cores 1 {path}"
    if not path.exists():
        raise DataError("the corpus has no passages yet", where=str(path), fix=mend)
    told = subprocess.run(_snakemake("--dry-run", str(path)), capture_output=True, text=True, check=False)
    if told.returncode:
        what = f"{told.stdout}{told.stderr}".strip().removeprefix("error: ")
        raise DataError(f"whether the passages are up to date cannot be said: {what}", where=str(path))
    if "Nothing to be done" not in told.stdout + told.stderr:
        raise DataError("the passages are older than the corpus's YAML, text or code", where=str(path), fix=mend)


def _forget_refused(places: Places) -> bool:
    """Have what was refused asked again; say whether the files that are there hold any of it."""
    from fewtable.teachers.journal import Journal

    if places.journal.exists():
        with Journal(places.journal) as journal:
            if any(answer.refused is not None for answer in journal.answers.values()):
                journal.retry_refused()
    summary = places.output / "summary.json"
    return summary.exists() and bool(read_json(summary)["answers"]["refused"])


def _snakemake(*arguments: str) -> list[str]:
    if importlib.util.find_spec("snakemake") is None:
        raise ModuleNotFoundError("No module named 'snakemake'", name="snakemake")
    return [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
