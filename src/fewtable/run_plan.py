"""Runs -> paths, and the params that their rules depend on. From config alone; nothing heavy."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from fewtable.backbone_spec import BackboneSpec
from fewtable.data_plan import SCRIPTS, DataPlan, params_json
from fewtable.errors import ConfigError
from fewtable.registry import find_module
from fewtable.resolve import Method, Run, resolve
from fewtable.specs import RunSpec


class RunPlan(DataPlan):
    """The resolved methods of runs, what they start from, and what their jobs are given."""

    # --- methods ----------------------------------------------------------------------------------

    @cached_property
    def _methods(self) -> dict[Run, Method]:
        return {}

    def method(self, run: Run) -> Method:
        """Return the resolved method of a run; where it decodes with its source run's model, ``train`` is the source's.

        Raises:
            ConfigError: see ``resolve``; the source's model is another family's, or writes another format.
        """
        if run not in self._methods:
            method = resolve(self.registry, self.user, run)
            if method.init and self._takes_its_source(run):
                source = self.method(method.init)
                if (source.family, source.format) != (method.family, method.format):
                    raise ConfigError(
                        f"run {run.key} decodes with the model of {method.init.key}, which is a {source.family} of "
                        f"format '{source.format}', not a {method.family} of format '{method.format}'",
                        where=f"config/methods/{run.method}.yaml:init",
                        fix="a source method of the same family and format.name",
                    )
                method = replace(method, train=source.train)
            self._methods[run] = method
        return self._methods[run]

    def _takes_its_source(self, run: Run) -> bool:
        """Say whether a run that has a source decodes with that run's model as it is: there is no support."""
        return self.registry.setting(run.setting).sampler.rule == "none"

    def unavailable(self, run: Run) -> str | None:
        """Return why a cell can't be made here, or None: its weights, its data, or those of a run it starts from."""
        if reason := self.registry.backbone(run.backbone).unavailable:
            return f"weights: {reason}"
        stage: Run | None = run
        while stage is not None:
            if reason := self.blocked(stage.dataset, stage.setting):
                return reason
            stage = self.method(stage).init
        return None

    def oracles(self, run: Run) -> tuple[str, ...]:
        """Return what a run is told that nobody knows, by its setting, its method and the runs it starts from.

        Among it the faults of released code that their options switch on.
        """
        found: list[str | None] = [self.registry.setting(run.setting).oracle]
        stage: Run | None = run
        while stage is not None:
            method = self.method(stage)
            found += [method.spec.oracle, self.registry.setting(stage.setting).oracle]
            if faults := getattr(find_module("families", method.family, stage.key), "oracle", None):
                # Nothing of a run is handed on by how it decodes.
                found.append(faults(method.train, method.decode if stage == run else {}))
            stage = method.init
        return tuple(dict.fromkeys(text.strip() for text in found if text))

    # --- jobs -------------------------------------------------------------------------------------

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
            engine=self.registry.backbone(run.backbone).engine if decode else "transformers",
            code=self.code.of(script, family, self._format_code(method)),
        )

    def run_params(self, run: Run, block: str, decode: bool) -> str:
        """Return run_spec as the canonical JSON that the script gets as ``--spec``."""
        key = ("run", *run, block, str(decode))
        if key not in self._strings:
            self._strings[key] = params_json(self.run_spec(run, block, decode).model_dump(mode="json"))
        return self._strings[key]

    def score_params(self, run: Run) -> str:
        """Return the params of parsing and scoring a run's outputs."""
        key = ("score", *run)
        if key not in self._strings:
            method = self.method(run)
            self._strings[key] = params_json(
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
            self._strings[key] = params_json(
                {
                    **run._asdict(),
                    "query": self.query(run.setting),
                    "blocks": self.blocks(run.setting),
                    "oracles": self.oracles(run),
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

    def trained_model(self, run: Run, block: str) -> str:
        """Return the model folder that a run's block decodes with: where nothing is trained, that of its source run."""
        source = self.init_model(run, block) if self._takes_its_source(run) else None
        return source or f"results/runs/{run.key}/{block}/model"

    def train_gpus(self, run: Run) -> int:
        """Return the GPUs that a training job asks for: several only where the family shares its work among them."""
        gpus: int = self.registry.backbone(run.backbone).gpu
        family = find_module("families", self.method(run).family, run.key)
        return gpus if getattr(family, "PARALLEL", False) else min(gpus, 1)

    def train_minutes(self, run: Run) -> int:
        """Return the time limit of a training job's first attempt: the backbone's, or its method's longer one."""
        return max(self.registry.backbone(run.backbone).minutes, self.registry.method(run.method).minutes or 0)

    def backbone_params(self, name: str) -> str:
        """Return the params of a backbone's weights: its source."""
        spec: BackboneSpec = self.registry.backbone(name)
        source = spec.model_dump(
            mode="json", include={"kind", "hub", "revision", "package", "path", "gguf", "random", "endpoint"}
        )
        return params_json({**source, "code": self.code.of(f"{SCRIPTS}/backbone.py")})

    def _types(self, dataset: str, uses: frozenset[str]) -> dict[str, dict[str, str]]:
        types = self.registry.dataset(dataset).types
        return {name: spec.model_dump(include=set(uses)) for name, spec in types.items()}

    @staticmethod
    def _format_code(method: Method) -> str:
        return f"fewtable.formats.{method.format.replace('-', '_')}:FORMAT"
