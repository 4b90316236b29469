"""The typed form of config/corpora/NAME.yaml: raw text, and the passages that are taken from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from fewtable.errors import ConfigError
from fewtable.specs import Name, Spec

WORDS = "words"
"""The ``tokens`` of a corpus whose lengths are counted in words; any other is a backbone."""
SUFFIXES = (".txt", ".jsonl", ".jsonl.zst", ".parquet")
"""The kinds of files that are read."""


class HubText(Spec):
    """A column of a Hugging Face dataset, pinned; streamed, never downloaded whole."""

    repo: str
    revision: str
    config: str | None = None
    files: tuple[str, ...] = ()
    """Patterns of the repository's files; all that make up the split, where left out."""
    split: str = "train"
    column: str = "text"


class OwnText(Spec):
    """A file of your own: .txt, .jsonl, .jsonl.zst or .parquet. A ``*`` in the path stands for several."""

    path: str
    column: str = "text"
    """The key (jsonl) or column (parquet) that holds a document."""


class DatasetText(Spec):
    """A registered dataset's sentences without their labels: each is a document."""

    name: Name
    split: Name = "train"


class TextSource(Spec):
    """Exactly one place raw text comes from."""

    hub: HubText | None = None
    file: OwnText | None = None
    dataset: DatasetText | None = None
    documents: Annotated[int, Field(ge=1)] | None = None
    """Take the first so many documents."""

    @model_validator(mode="after")
    def _one(self) -> TextSource:
        if sum(value is not None for value in (self.hub, self.file, self.dataset)) != 1:
            raise ValueError("a source names exactly one of hub, file, dataset")
        return self


class PassagesSpec(Spec):
    """The part of a corpus that its passages depend on."""

    sources: Annotated[tuple[TextSource, ...], Field(min_length=1)]
    tokens: Name
    """Counts lengths: a backbone, whose tokenizer does, or ``words``."""
    max_tokens: Annotated[int, Field(ge=16)] = 256
    min_tokens: Annotated[int, Field(ge=1)] = 8
    """Shorter passages are left out."""
    english: bool = True
    """Leave out passages that are not English."""
    passages: Annotated[int, Field(ge=1)] = 50_000
    """Passages drawn, uniformly over all that are left; all of them where there are fewer."""
    seed: int = 1

    @model_validator(mode="after")
    def _lengths(self) -> PassagesSpec:
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}")
        return self


class CorpusSpec(PassagesSpec):
    """config/corpora/NAME.yaml: raw text that a teacher annotates."""

    title: str
    licence: str
    homepage: str | None = None
    note: str | None = None


class PassagesJob(PassagesSpec):
    """The resolved spec of the job that makes a corpus's passages (``--spec``)."""

    code: str = ""
    """Fingerprint of the library code that the job uses."""


def own_files(source: OwnText) -> list[Path]:
    """Return the files that the path of a source stands for, sorted. Opens none.

    Raises:
        ConfigError: there is none, or one of a kind that can't be read.
    """
    path = Path(source.path).expanduser()
    pattern = str(path.relative_to(path.anchor)).replace("[", "[[]").replace("?", "[?]")  # only * stands for several
    found = sorted(Path(path.anchor).glob(pattern))
    if not found:
        raise ConfigError("there is no such file", where=str(path), fix="mend 'path' in the corpus's YAML")
    for file in found:
        if not file.name.lower().endswith(SUFFIXES):
            raise ConfigError("not a kind of file that is read", where=str(file), fix=f"one of {', '.join(SUFFIXES)}")
    return found
