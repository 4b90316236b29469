"""How a workflow script runs: one library call, one summary line, errors as text, exit codes.

Also what the scripts share that lay results out in several forms.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from fewtable.errors import FewtableError
from fewtable.files import write_bytes
from fewtable.training.parallel import leads


def run(main: Callable[[], str]) -> NoReturn:
    """Call ``main``, print its summary line with the seconds it took, and exit.

    A FewtableError becomes its text on stderr and exit code 1; any other error keeps its traceback.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # peft's use of it, not ours
    started = time.monotonic()
    try:
        summary = main()
    except FewtableError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    if leads():
        print(f"{summary} in {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
    sys.exit(0)


def layout_arguments(about: str | None) -> argparse.Namespace:
    """Read the command line of a script that lays results out: ``spec``, ``results`` and ``output``."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--spec", required=True, type=json.loads, help="the plan's params of the target, as JSON")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where the plan's paths begin")
    parser.add_argument("--output", required=True, type=Path, help="path without suffix: results/PAPER/table1")
    return parser.parse_args()


def write_forms(output: Path, forms: Mapping[str, str | bytes]) -> None:
    """Write each form to ``output`` with its suffix."""
    for suffix, content in forms.items():
        path = output.with_name(f"{output.name}.{suffix}")
        write_bytes(path, content.encode() if isinstance(content, str) else content)
