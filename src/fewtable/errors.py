"""Errors a person can act on: what is wrong, where it stands, how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class FewtableError(Exception):
    """Base of all errors shown to a person without a traceback.

    Args:
        what: what is wrong, one sentence.
        where: ``file:line`` or ``file:key``, when it stands somewhere.
        fix: how to mend it, one sentence.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(what)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  to mend: {self.fix}" if self.fix else head


class ConfigError(FewtableError):
    """A YAML file, a config key or a command-line argument is wrong."""


class DataError(FewtableError):
    """A corpus, sample, output or prediction file is malformed, missing or not what it should be."""


class LicenceError(DataError):
    """A corpus must be licensed by the user and is not there."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint for a misspelt ``name``: the closest known names, else all of them."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names) or 'none'}"
