"""How a workflow script runs: one library call, one summary line, errors as text, exit codes."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import NoReturn

from fewtable.errors import FewtableError


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
    print(f"{summary} in {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
    sys.exit(0)
