"""Types by the words that name them; those of a mixture of datasets are called SOURCE/TYPE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fewtable.errors import ConfigError


def check_words(words: Mapping[str, str]) -> None:
    """Check that words tell types apart, given type -> words. The datasets of a mixture may share words.

    Raises:
        ConfigError: two types of a dataset have the same words.
    """
    owners: dict[tuple[str, str], str] = {}
    for name, shown in words.items():
        other = owners.setdefault((name.rpartition("/")[0], shown), name)
        if other != name:
            raise ConfigError(
                f"types '{other}' and '{name}' have the same words",
                where=f"types.{name}.words",
                fix="give each type words of its own: questions and answers name types by them",
            )


def of_source(names: Iterable[str], source: str) -> list[str]:
    """Return the types that a sentence is asked about: in a mixture, those of the dataset that it comes from."""
    names = list(names)
    return [name for name in names if name.startswith(f"{source}/")] or names
