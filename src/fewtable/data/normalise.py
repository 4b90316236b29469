"""Raw files -> the sentences of a split: read, rename, check, take a part, count."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fewtable.corpus import Entity, Sentence, sentence_id
from fewtable.data.readers.base import RawSentence
from fewtable.errors import DataError, did_you_mean
from fewtable.registry import find_module, validate
from fewtable.specs import DatasetSpec, HashSplit, SplitSpec


def normalise(dataset: str, spec: DatasetSpec, split: str, raw: Mapping[str, Path]) -> list[Sentence]:
    """Return the sentences of ``split`` with the corpus' type names; groups without words are left out.

    Args:
        dataset: the dataset's name, for ids and errors.
        spec: its spec.
        split: a split of it.
        raw: file name -> path of the raw file; at least those that the split names.

    Raises:
        ConfigError: the reader or its options are wrong.
        DataError: the split is unknown, a raw file is missing or malformed (file:line), a tag names an
            unknown type, no sentence falls in the split's part, or the counts are not those of the spec.
    """
    part = split_spec(dataset, spec, split)
    types = TypeNames(dataset, spec)
    out: list[Sentence] = []
    whole = 0
    for sentence in read_raw(dataset, spec, part, raw):
        whole += bool(sentence.words)
        if sentence.words and (part.part is None or in_part(sentence.words, part.part)):
            identity = sentence_id(split, len(out))
            out.append(Sentence(identity, sentence.words, types.entities(sentence), sentence.glued, sentence.source))
    if part.part and not out:
        raise DataError(
            f"of the {whole:,} sentences of {dataset} none falls in the part that is its {split}",
            where=yaml_key(dataset, f"splits.{split}.part"),
            fix="widen it (low, high), and narrow the other splits' as much; or use more sentences",
        )
    _check_counts(dataset, split, part, out)
    return out


def split_spec(dataset: str, spec: DatasetSpec, split: str) -> SplitSpec:
    """Return the spec of a split; raise DataError with the nearest name when there is none."""
    if split not in spec.splits:
        raise DataError(
            f"unknown split '{split}'", where=yaml_key(dataset, "splits"), fix=did_you_mean(split, spec.splits)
        )
    return spec.splits[split]


def yaml_key(dataset: str, key: str) -> str:
    """Return ``file:key`` of a dataset's YAML, for errors."""
    return f"config/datasets/{dataset}.yaml:{key}"


def raw_paths(dataset: str, part: SplitSpec, raw: Mapping[str, Path]) -> list[Path]:
    """Return the paths of a split's files; raise DataError for one that was not given."""
    for name in part.files:
        if name not in raw:
            raise DataError(
                f"the raw file '{name}' of {dataset} is missing",
                where=yaml_key(dataset, "files"),
                fix=f"fetch it: fewtable data fetch {dataset}",
            )
    return [raw[name] for name in part.files]


def read_raw(dataset: str, spec: DatasetSpec, part: SplitSpec, raw: Mapping[str, Path]) -> Iterator[RawSentence]:
    """Yield the raw sentences of a split's files, as the dataset's reader gives them."""
    module = find_module("data.readers", spec.reader, yaml_key(dataset, "reader"))
    options = validate(module.Options, spec.options, yaml_key(dataset, "options"))
    yield from module.read(raw_paths(dataset, part, raw), options)


class TypeNames:
    """Raw tag names -> the corpus' type names, by a dataset's ``rename`` and ``drop``."""

    def __init__(self, dataset: str, spec: DatasetSpec) -> None:
        self._dataset = dataset
        self._spec = spec
        self._known: dict[str, str | None] = {}

    def name(self, raw: str, where: str) -> str | None:
        """Return the type of a raw tag name, None when it is dropped; raise DataError when it is unknown."""
        if raw not in self._known:
            name = self._spec.rename.get(raw, raw)
            if raw not in self._spec.drop and name not in self._spec.types and not self._spec.open_types:
                keys = "its domain under domains" if self._spec.domains else "it under types, rename or drop"
                raise DataError(
                    f"unknown type '{raw}'",
                    where=where,
                    fix=f"{did_you_mean(name, self._spec.types)} Mend the line, or list {keys} in "
                    f"config/datasets/{self._dataset}.yaml",
                )
            self._known[raw] = None if raw in self._spec.drop else name
        return self._known[raw]

    def entities(self, sentence: RawSentence) -> tuple[Entity, ...]:
        """Return the sentence's entities under the corpus' names, sorted, each once."""
        found = set()
        for start, end, raw in sentence.entities:
            name = self.name(raw, sentence.at(start))
            if name is not None:
                found.add(Entity(start, end, name))
        return tuple(sorted(found))


def in_part(words: Sequence[str], part: HashSplit) -> bool:
    """Say whether a sentence falls in a part: its lower-cased, space-joined words hash into [low, high)."""
    digest = hashlib.sha256(" ".join(words).lower().encode()).digest()
    return part.low <= int.from_bytes(digest[:6]) / 2**48 < part.high


def _check_counts(dataset: str, split: str, part: SplitSpec, sentences: Sequence[Sentence]) -> None:
    found = {"sentences": len(sentences), "entities": sum(len(s.entities) for s in sentences)}
    for key, wanted in (("sentences", part.sentences), ("entities", part.entities)):
        if wanted is not None and found[key] != wanted:
            raise DataError(
                f"{found[key]} {key} in {dataset} {split}, not {wanted}",
                where=yaml_key(dataset, f"splits.{split}.{key}"),
                fix="fetch the raw files again, or mend the number if you mean another version of the corpus",
            )
