"""Tables -> cells -> runs -> paths, and the params that each rule depends on. From config alone; nothing heavy.

Snakemake compares a rule's params as a nameless set, so every rule gets one canonical JSON string with exactly
the resolved keys that can change its result, and the fingerprint of the code that it uses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fewtable.available import why_missing
from fewtable.errors import ConfigError, did_you_mean
from fewtable.files import digest, sha256_file, write_json
from fewtable.fingerprint import Fingerprints
from fewtable.registry import Registry, user_config
from fewtable.resolve import Method, Run, resolve
from fewtable.specs import BackboneSpec, DatasetSpec, RunSpec, SettingSpec, TableSpec, UserConfig, cell_key

SCRIPTS = "workflow/scripts"
USER_CONFIG = Path(".cache/config.json")
"""The user's config as Snakemake merged it (--config, --configfile), for the jobs that act on it."""


def _params(value: Any) -> str:
    """Return JSON in the order given: the order of types is part of a prompt."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class Plan:
    """All that the rules ask: one object a Snakefile, made from the user's config and the config folder."""

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
    def _methods(self) -> dict[Run, Method]:
        return {}

    @cached_property
    def _strings(self) -> dict[tuple[str, ...], str]:
        return {}

    def method(self, run: Run) -> Method:
        """Return the resolved method of a run."""
        if run not in self._methods:
            self._methods[run] = resolve(self.registry, self.user, run)
        return self._methods[run]

    def draws(self, setting: str) -> int:
        """Return the number of draws of a setting: the user's, else the setting's."""
        own: int | None = self.user.draws.get(setting)
        return own or self.registry.setting(setting).draws

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

    def blocked(self, dataset: str, setting: str) -> str | None:
        """Return why the cells of a dataset in a setting can't be made here, or None. Opens no file."""
        key = (dataset, setting)
        if key not in self._blocked:
            splits = self.data_files(dataset, setting)
            self._blocked[key] = why_missing(dataset, self.registry.dataset(dataset), splits, self.user)
        return self._blocked[key]

    @cached_property
    def _blocked(self) -> dict[tuple[str, str], str | None]:
        return {}

    def check_target(self, path: str) -> None:
        """Check the names in a target that a person typed, and all methods of a table.

        Raises:
            ConfigError: a dataset, setting, method, backbone or table is unknown (with the nearest known one),
                or the method cannot run on the backbone.
        """
        parts = path.removeprefix("results/").split("/")
        names = [*parts[1:4], parts[4].removesuffix(".json")] if len(parts) > 4 else []
        if parts[0] in ("cells", "tracking", "runs") and names:
            self.method(Run(*names))
        elif parts[0] in ("samples", "data", "raw") and len(parts) > 2:
            self.registry.dataset(parts[1])
            if parts[0] == "samples":
                self.registry.setting(parts[2])
        elif len(parts) == 1 and path.startswith("results/") and path != "results/report.html":
            for run in self.table_runs(parts[0].rpartition(".")[0]).values():
                self.method(run)

    # --- tables -----------------------------------------------------------------------------------

    def table_runs(self, name: str) -> dict[tuple[str, str], Run]:
        """Return (row id, column id) -> run of a table, blocked cells included."""
        spec = self.registry.table(name)
        return {
            (row.id, column.id): Run(*cell_key(row, column).split("/")) for row in spec.rows for column in spec.columns
        }

    def table_cells(self, name: str) -> list[Run]:
        """Return the runs of a table that can be made, each once, in order."""
        runs = (run for run in self.table_runs(name).values() if self.blocked(run.dataset, run.setting) is None)
        return list(dict.fromkeys(runs))

    def table_params(self, name: str) -> str:
        """Return the params of a table: its layout, printed values, method titles and notes, blocked cells."""
        spec: TableSpec = self.registry.table(name)
        return _params(
            {
                "name": name,
                "table": spec.model_dump(mode="json"),
                "notes": {r.method: self.registry.method(r.method).note for r in spec.rows},
                "blocked": {
                    f"{row}/{column}": reason
                    for (row, column), run in self.table_runs(name).items()
                    if (reason := self.blocked(run.dataset, run.setting)) is not None
                },
                "code": self.code.of(f"{SCRIPTS}/table.py"),
            }
        )

    def report_params(self, tables: Iterable[str]) -> str:
        """Return the params of the report on ``tables``."""
        return _params(
            {
                "tables": {name: self.table_params(name) for name in tables},
                "code": self.code.of(f"{SCRIPTS}/report.py"),
                "templates": self._templates,
            }
        )

    @cached_property
    def _templates(self) -> dict[str, str]:
        """The report's templates and styles, which no import statement names."""
        folder = self.source / "fewtable" / "report"
        return {
            path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.suffix in (".j2", ".css", ".js")
        }

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
            return _params({"sha256": entry.sha256})
        licensed = self.user.licensed.get(dataset)
        return _params({**entry.model_dump(mode="json"), "licensed": licensed, "config_mirror": self.user.mirror})

    def tracking_params(self) -> str:
        """Return the params of tracking: which store, as a digest, for an address may hold a password."""
        return digest(self.user.tracking.model_dump(mode="json"))

    def save(self) -> None:
        """Write what jobs and later calls read: the config as merged, and the parsed code."""
        write_json(USER_CONFIG, self.user.model_dump(mode="json"))
        self.code.save()

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
            self._strings[key] = _params(
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
        return {
            split: f"results/data/{dataset}/{split}.jsonl" for split in dict.fromkeys([*splits, self.query(setting)])
        }

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
            self._strings[key] = _params(
                {
                    "dataset": dataset,
                    "setting": spec.model_dump(mode="json", exclude={"title", "draws", "draws_per_job"}),
                    "types": list(self.registry.dataset(dataset).types),
                    "draws": self.block_draws(block),
                    "episodes": json.loads(self.data_params(dataset, spec.support))
                    if spec.sampler.rule == "official"
                    else None,
                    "code": self.code.of(f"{SCRIPTS}/sample.py"),
                }
            )
        return self._strings[key]

    # --- runs -------------------------------------------------------------------------------------

    def run_spec(self, run: Run, block: str, decode: bool) -> RunSpec:
        """Return what a training job (``decode`` False) or a decoding job is given."""
        method = self.method(run)
        family = f"fewtable.families.{method.family.replace('-', '_')}:load"
        script = f"{SCRIPTS}/{'decode' if decode else 'train'}.py"
        return RunSpec(
            dataset=run.dataset,
            setting=run.setting,
            method=run.method,
            backbone=run.backbone,
            draws=self.block_draws(block),
            types=self._types(run.dataset, method.uses),
            family=method.family,
            format={
                "name": method.format,
                **{k: v for k, v in method.format_options.items() if k not in method.parsing},
            },
            train=method.train,
            dtype=self.registry.backbone(run.backbone).dtype,
            init=method.init.key if method.init else None,
            decoding=method.decode if decode else None,
            code=self.code.of(script, family, self._format_code(method)),
        )

    def run_params(self, run: Run, block: str, decode: bool) -> str:
        """Return run_spec as the canonical JSON that the script gets as ``--spec``."""
        key = ("run", *run, block, str(decode))
        if key not in self._strings:
            self._strings[key] = _params(self.run_spec(run, block, decode).model_dump(mode="json"))
        return self._strings[key]

    def score_params(self, run: Run) -> str:
        """Return the params of parsing and scoring a run's outputs."""
        key = ("score", *run)
        if key not in self._strings:
            method = self.method(run)
            self._strings[key] = _params(
                {
                    "format": {"name": method.format, **method.format_options},
                    "types": self._types(run.dataset, method.uses),
                    "code": self.code.of(f"{SCRIPTS}/score.py", self._format_code(method)),
                }
            )
        return self._strings[key]

    def cell_params(self, run: Run) -> str:
        """Return the params of a cell: its names and, for people to read, the whole resolved spec."""
        key = ("cell", *run)
        if key not in self._strings:
            method = self.method(run)
            setting = self.registry.setting(run.setting)
            self._strings[key] = _params(
                {
                    **run._asdict(),
                    "query": self.query(run.setting),
                    "blocks": self.blocks(run.setting),
                    "spec": {
                        "family": method.family,
                        "format": {"name": method.format, **method.format_options},
                        "train": method.train,
                        "decode": method.decode,
                        "init": method.init.key if method.init else None,
                        "dtype": self.registry.backbone(run.backbone).dtype,
                        "sampler": setting.sampler.model_dump(mode="json"),
                        "query": setting.query.model_dump(mode="json"),
                    },
                    "code": self.code.of(f"{SCRIPTS}/cell.py"),
                }
            )
        return self._strings[key]

    def init_model(self, run: Run, block: str) -> str | None:
        """Return the model folder that a run's block starts from: its own block's, or the source run's only one."""
        init = self.method(run).init
        if init is None:
            return None
        same = (init.dataset, init.setting) == (run.dataset, run.setting)
        if not same and self.draws(init.setting) != 1:
            raise ConfigError(
                f"run {run.key} starts from {init.key}, which has {self.draws(init.setting)} draws",
                fix="a source run needs a setting of one draw, such as 'full'",
            )
        return f"results/runs/{init.key}/{block if same else '1-1'}/model"

    def backbone_params(self, name: str) -> str:
        """Return the params of a backbone's weights: its source."""
        spec: BackboneSpec = self.registry.backbone(name)
        source = spec.model_dump(mode="json", include={"kind", "hub", "revision", "package", "path", "gguf", "random"})
        return _params({**source, "code": self.code.of(f"{SCRIPTS}/backbone.py")})

    def _types(self, dataset: str, uses: frozenset[str]) -> dict[str, dict[str, str]]:
        types = self.registry.dataset(dataset).types
        return {name: spec.model_dump(include=set(uses)) for name, spec in types.items()}

    @staticmethod
    def _format_code(method: Method) -> str:
        return f"fewtable.formats.{method.format.replace('-', '_')}:FORMAT"
