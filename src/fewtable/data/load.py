"""A split's sentences for a person at the command line: the workflow's file, or made in memory from the raw files."""

from __future__ import annotations

from pathlib import Path

from fewtable.corpus import Sentence, read_sentences
from fewtable.data.fetch import fetch_file
from fewtable.data.normalise import normalise, split_spec
from fewtable.errors import DataError
from fewtable.files import sha256_file
from fewtable.registry import Registry
from fewtable.specs import UserConfig


def load_split(registry: Registry, user: UserConfig, dataset: str, split: str) -> list[Sentence]:
    """Return the sentences of a split; raw files that are missing are fetched to ``results/raw``.

    A file of one's own (``path``) is read where it lies, as it is now.

    Raises:
        ConfigError, LicenceError, DataError: as fetch_file and normalise.
    """
    spec = registry.dataset(dataset)
    part = split_spec(dataset, spec, split)
    own = {name: Path(s.path).expanduser() for name in part.files for s in spec.files[name].sources if s.path}
    done = Path("results/data") / dataset / f"{split}.jsonl"
    if done.exists() and not own:
        return read_sentences(done)
    raw = {name: own.get(name, Path("results/raw") / dataset / name) for name in part.files}
    for name, path in raw.items():
        if not path.exists() and name in own:
            raise DataError(
                "there is no such file", where=str(path), fix=f"mend config/datasets/{dataset}.yaml:files.{name}"
            )
        if name in own and spec.files[name].sha256 not in (None, sha256_file(path)):
            raise DataError(
                "the file is not the one whose sha256 the dataset names",
                where=str(path),
                fix=f"bring that file back, or mend config/datasets/{dataset}.yaml:files.{name}.sha256",
            )
        if not path.exists():
            fetch_file(dataset, spec, name, path, user)
    return normalise(dataset, spec, split, raw)
