"""Data and samples -> paths, and the params that their rules depend on. From config alone; nothing heavy.

Snakemake compares a rule's params as a nameless set, so every rule gets one canonical JSON string with exactly
the resolved keys that can change its result, and the fingerprint of the code that it uses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fewtable.available import why_missing
from fewtable.errors import ConfigError, did_you_mean
from fewtable.fingerprint import Fingerprints
from fewtable.passages.spec import WORDS, PassagesSpec, own_files
from fewtable.registry import Registry, user_config
from fewtable.specs import DatasetSpec, SettingSpec, UserConfig

SCRIPTS = "workflow/scripts"
DATA, ANNOTATIONS = "results/data/", "results/annotations/"


def params_json(value: Any) -> str:
    """Return JSON in the order given: the order of types is part of a prompt."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class DataPlan:
    """Draws, blocks, data files and samples of every dataset and setting."""

    registry: Registry
    config: Mapping[str, Any]
    source: Path = Path("src")

    # --- names ------------------------------------------------------------------------------------

    @cached_property
    def user(self) -> UserConfig:
        """The validated user config."""
        return user_config(self.config)

    @cached_property
    def code(self) -> Fingerprints:
        """Fingerprints of the library code."""
        return Fingerprints(self.source, Path(".cache/fingerprints.json"))

    @cached_property
    def _strings(self) -> dict[tuple[str, ...], str]:
        return {}

    def draws(self, setting: str) -> int:
        """Return the number of draws of a setting: the user's, else the setting's.

        Raises:
            ConfigError: several draws of a setting without a support sample, which would all be the same.
        """
        own: int | None = self.user.draws.get(setting)
        spec = self.registry.setting(setting)
        count = own or spec.draws
        if count > 1 and spec.sampler.rule == "none":
            raise ConfigError(
                f"setting '{setting}' draws nothing, so that {count} draws would be the same",
                where=f"config/config.yaml:draws.{setting}" if own else f"config/settings/{setting}.yaml:draws",
                fix="set it to 1",
            )
        return count

    def blocks(self, setting: str) -> list[str]:
        """Return the blocks of a setting: ``1-3``, ``4-6``, ...

        Draws beyond the setting's own number are blocks of one, so that asking for one more leaves all others.
        """
        spec, last = self.registry.setting(setting), self.draws(setting)
        own, step = min(spec.draws, last), spec.draws_per_job
        blocks = [(first, min(first + step - 1, own)) for first in range(1, own + 1, step)]
        return [f"{first}-{end}" for first, end in [*blocks, *((n, n) for n in range(own + 1, last + 1))]]

    @staticmethod
    def block_draws(block: str) -> tuple[int, ...]:
        """Return the draws of a block."""
        first, _, last = block.partition("-")
        return tuple(range(int(first), int(last) + 1))

    def missing(self, dataset: str, splits: Iterable[str]) -> str | None:
        """Return why splits of a dataset can't be made here, or None. Opens no file."""
        key = (dataset, *splits)
        if key not in self._missing:
            reasons = [why_missing(dataset, self.registry.dataset(dataset), key[1:], self.user)]
            reasons += [self.missing(*made) for made in self._made_from(dataset)]
            self._missing[key] = next((reason for reason in reasons if reason), None)
        return self._missing[key]

    def _made_from(self, dataset: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the datasets and splits that a dataset is made from, or whose sentences a teacher annotated."""
        spec = self.registry.dataset(dataset)
        for path in (source.path for file in spec.files.values() for source in file.sources if source.path):
            if path.startswith(DATA):
                yield Path(path).parent.name, (Path(path).stem,)
            elif path.startswith(ANNOTATIONS):
                for made in self.registry.corpus(Path(path).parent.name).sources:
                    if made.dataset:
                        yield made.dataset.name, (made.dataset.split,)

    def blocked(self, dataset: str, setting: str) -> str | None:
        """Return why the cells of a dataset in a setting can't be made here, or None. Opens no file."""
        return self.missing(dataset, self.data_files(dataset, setting))

    @cached_property
    def _missing(self) -> dict[tuple[str, ...], str | None]:
        return {}

    # --- data and samples -------------------------------------------------------------------------

    def raw_files(self, dataset: str, split: str) -> list[str]:
        """Return the paths of the raw files of a split."""
        spec = self.registry.dataset(dataset)
        if split not in spec.splits:
            raise ConfigError(
                f"dataset '{dataset}' has no split '{split}'", fix=f"it has {', '.join(sorted(spec.splits))}"
            )
        return [f"results/raw/{dataset}/{name}" for name in spec.splits[split].files]

    def fetch_params(self, dataset: str, file: str) -> str:
        """Return the params of a raw file: its checksum, and where that is not known, where the file comes from."""
        spec = self.registry.dataset(dataset)
        if file not in spec.files:
            raise ConfigError(f"dataset '{dataset}' has no file '{file}'", fix=did_you_mean(file, spec.files))
        entry = spec.files[file]
        if entry.sha256:
            return params_json({"sha256": entry.sha256})
        licensed = self.user.licensed.get(dataset)
        return params_json({**entry.model_dump(mode="json"), "licensed": licensed, "config_mirror": self.user.mirror})

    def own_files(self, dataset: str, file: str) -> list[str]:
        """Return the paths on this machine that a raw file is copied from: an edit of them reruns what follows."""
        spec = self.registry.dataset(dataset)
        sources = spec.files[file].sources if file in spec.files else ()
        return [str(Path(source.path).expanduser()) for source in sources if source.path]

    def data_params(self, dataset: str, split: str) -> str:
        """Return the params of a normalised split."""
        key = ("data", dataset, split)
        if key not in self._strings:
            spec: DatasetSpec = self.registry.dataset(dataset)
            self._strings[key] = params_json(
                {
                    "reader": spec.reader,
                    "options": spec.options,
                    "split": spec.splits[split].model_dump(mode="json"),
                    "types": list(spec.types),
                    "rename": spec.rename,
                    "drop": spec.drop,
                    "code": self.code.of(
                        f"{SCRIPTS}/data.py", f"fewtable.data.readers.{spec.reader.replace('-', '_')}"
                    ),
                }
            )
        return self._strings[key]

    def data_files(self, dataset: str, setting: str) -> dict[str, str]:
        """Return split -> data file that a setting's samples name."""
        spec: SettingSpec = self.registry.setting(setting)
        splits = [] if spec.sampler.rule == "none" else [spec.support]
        if self._asks(dataset, setting):
            splits.append(self.query(setting))
        return {split: f"results/data/{dataset}/{split}.jsonl" for split in dict.fromkeys(splits)}

    def _asks(self, dataset: str, setting: str) -> bool:
        """Say whether a setting has something to ask: not of a mixture without that split, which is only learned."""
        spec = self.registry.dataset(dataset)
        return spec.mixture is None or self.query(setting) in spec.splits

    def sample_files(self, dataset: str, setting: str) -> list[str]:
        """Return what a block of samples is drawn from: data files, and raw ones where episodes are official."""
        spec = self.registry.setting(setting)
        raw = self.raw_files(dataset, spec.support) if spec.sampler.rule == "official" else []
        return [*self.data_files(dataset, setting).values(), *raw]

    def query(self, setting: str) -> str:
        """Return the split that a setting asks: episodes draw support and query from one split."""
        spec = self.registry.setting(setting)
        return spec.support if spec.episodic else spec.query.split

    def sample_params(self, dataset: str, setting: str, block: str) -> str:
        """Return the params of a block of samples."""
        key = ("sample", dataset, setting, block)
        if key not in self._strings:
            spec = self.registry.setting(setting)
            self._strings[key] = params_json(
                {
                    "dataset": dataset,
                    "setting": spec.model_dump(mode="json", exclude={"title", "draws", "draws_per_job", "oracle"}),
                    "types": list(self.registry.dataset(dataset).types),
                    "draws": self.block_draws(block),
                    "episodes": json.loads(self.data_params(dataset, spec.support))
                    if spec.sampler.rule == "official"
                    else None,
                    **({} if self._asks(dataset, setting) else {"asked": False}),
                    **({"mentioned": True} if self.registry.dataset(dataset).domains else {}),
                    "code": self.code.of(f"{SCRIPTS}/sample.py"),
                }
            )
        return self._strings[key]

    # --- passages ---------------------------------------------------------------------------------

    def counting_backbone(self, corpus: str) -> str | None:
        """Return the folder of the backbone whose tokens measure a corpus's passages; None where words do."""
        tokens = self.registry.corpus(corpus).tokens
        if tokens == WORDS:
            return None
        self.registry.backbone(tokens)
        return f"results/backbones/{tokens}"

    def passage_files(self, corpus: str) -> list[str]:
        """Return the files that a corpus's passages are made from: datasets' splits and your own.

        Raises:
            ConfigError: the corpus names an unknown dataset or split, or a file that is not there.
        """
        files = []
        for source in self.registry.corpus(corpus).sources:
            if source.dataset:
                self.raw_files(source.dataset.name, source.dataset.split)
                files.append(f"results/data/{source.dataset.name}/{source.dataset.split}.jsonl")
            if source.file:
                files += map(str, own_files(source.file))
        return list(dict.fromkeys(files))

    def passages_params(self, corpus: str) -> str:
        """Return the params of a corpus's passages: its sources, lengths, filters, size and seed."""
        own = set(PassagesSpec.model_fields)
        spec = self.registry.corpus(corpus).model_dump(mode="json", include=own)
        return params_json({**spec, "code": self.code.of(f"{SCRIPTS}/passages.py")})

    # --- annotations ------------------------------------------------------------------------------

    def annotation_params(self, teacher: str) -> str:
        """Return the params of a corpus's annotation: what can change the teacher's answers, and how they are read."""
        identity = self.registry.teacher(teacher).identity
        return params_json({**identity, "code": self.code.of(f"{SCRIPTS}/annotate.py")})
