"""Views and cases -> the files that they are made from, and the params of their rules. From config alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewtable.data_plan import SCRIPTS, params_json
from fewtable.errors import ConfigError, did_you_mean
from fewtable.resolve import Run
from fewtable.run_plan import RunPlan
from fewtable.views.spec import Look, PairSpec


class ViewPlan(RunPlan):
    """Two runs held against each other: what their jobs are given."""

    def pair(self, kind: str, name: str) -> PairSpec:
        """Return the spec of a view or of cases."""
        return self.registry.view(name) if kind == "views" else self.registry.cases(name)

    def pairs(self, kind: str, name: str) -> dict[str, dict[str, Run]]:
        """Return dataset -> side -> run of a view or of cases, where the runs of both sides can be made."""
        found: dict[str, dict[str, Run]] = {}
        for place, key in self.pair(kind, name).cells.items():
            dataset, _, side = place.partition("/")
            found.setdefault(dataset, {})[side] = Run(*key.split("/"))
        return {d: sides for d, sides in found.items() if not any(map(self.unavailable, sides.values()))}

    def looks(self, name: str) -> dict[str, Look]:
        """Return dataset -> what the job of a view looks at there.

        Raises:
            ConfigError: the setting has no such draw, the dataset no such type, or a method gives no decoder-only model
                that is asked in brackets.
        """
        spec = self.registry.view(name)
        blocks = [block for block in self.blocks(spec.setting) if spec.draw in self.block_draws(block)]
        if not blocks:
            raise ConfigError(
                f"setting '{spec.setting}' has {self.draws(spec.setting)} draws, and no draw {spec.draw}",
                where=f"{self.registry.root}/views/{name}.yaml:draw",
            )
        for key in spec.cells.values():
            self._check_looked_at(Run(*key.split("/")))
        types = self.registry.dataset(spec.datasets[0]).types
        if spec.attention and spec.attention.type not in types:
            raise ConfigError(
                f"dataset '{spec.datasets[0]}' has no type '{spec.attention.type}'",
                where=f"{self.registry.root}/views/{name}.yaml:attention.type",
                fix=did_you_mean(spec.attention.type, types),
            )
        return {dataset: self._look(sides, blocks[0]) for dataset, sides in self.pairs("views", name).items()}

    def _check_looked_at(self, run: Run) -> None:
        """Check that a run's models and prompts can be looked at."""
        if self.registry.backbone(run.backbone).kind != "causal" or self.method(run).format != "brackets":
            raise ConfigError(
                f"run {run.key} can't be looked into: a view is of decoder-only models that are asked in brackets",
                where=f"{self.registry.root}/methods/{run.method}.yaml:format.name",
                fix="a method of format brackets",
            )

    def _look(self, sides: Mapping[str, Run], block: str) -> Look:
        runs = list(sides.values())
        dataset, setting = runs[0].dataset, runs[0].setting
        code = [f"{SCRIPTS}/look.py"]
        code += [f"fewtable.families.{self.method(run).family.replace('-', '_')}:load" for run in runs]
        code += [self._format_code(self.method(run)) for run in runs]
        own = {"code": self.code.of(*dict.fromkeys(code))}
        return Look(
            samples=f"results/samples/{dataset}/{setting}/{block}.jsonl",
            data=self.data_files(dataset, setting)[self.query(setting)],
            backbone=f"results/backbones/{runs[0].backbone}",
            models={side: self.trained_model(run, block) for side, run in sides.items()},
            specs={side: self.run_spec(run, block, decode=False).model_copy(update=own) for side, run in sides.items()},
        )

    def look_files(self, name: str) -> list[str]:
        """Return the files and folders that the job of a view reads."""
        looks = self.looks(name).values()
        return list(dict.fromkeys(path for k in looks for path in (k.samples, k.data, k.backbone, *k.models.values())))

    def look_params(self, name: str) -> str:
        """Return the params of a view's numbers: what is looked at, and what is measured there."""
        measured = self.registry.view(name).model_dump(mode="json", include={"draw", "layer", "attention", "space"})
        looks = {dataset: look.model_dump(mode="json") for dataset, look in self.looks(name).items()}
        return params_json({**measured, "looks": looks})

    def view_params(self, name: str) -> str:
        """Return the params of a view as drawn: its titles, the words of its types, blocked runs."""
        return self._pair_params("views", name, f"{SCRIPTS}/view.py")

    def cases_params(self, name: str) -> str:
        """Return the params of a table of cases: its titles and sizes, its runs' files, blocked runs."""
        setting = self.registry.cases(name).setting
        files = {"blocks": self.blocks(setting), "query": self.query(setting)}
        return self._pair_params("cases", name, f"{SCRIPTS}/cases.py", **files)

    def _pair_params(self, kind: str, name: str, script: str, **more: Any) -> str:
        spec = self.pair(kind, name)
        datasets = {dataset: self.registry.dataset(dataset) for dataset in spec.datasets}
        reasons = {place: self.unavailable(Run(*key.split("/"))) for place, key in spec.cells.items()}
        return params_json(
            {
                "name": name,
                "spec": spec.model_dump(mode="json"),
                "datasets": {dataset: found.title for dataset, found in datasets.items()},
                "types": {d: {t: kind.words for t, kind in found.types.items()} for d, found in datasets.items()},
                "blocked": {place: reason for place, reason in reasons.items() if reason is not None},
                **more,
                "code": self.code.of(script),
            }
        )

    def cases_files(self, name: str) -> list[str]:
        """Return the files that cases are taken from: predictions, samples and data."""
        setting = self.registry.cases(name).setting
        files: list[str] = []
        for dataset, sides in self.pairs("cases", name).items():
            files += self.data_files(dataset, setting).values()
            for block in self.blocks(setting):
                files.append(f"results/samples/{dataset}/{setting}/{block}.jsonl")
                files += [
                    f"results/runs/{run.key}/{block}/predictions.{self.query(setting)}.jsonl" for run in sides.values()
                ]
        return files
