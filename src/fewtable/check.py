"""Whether all of config/ is valid, what is missing on this machine, and which cells that blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fewtable.errors import ConfigError, FewtableError, did_you_mean
from fewtable.plan import OF_CELLS, Plan
from fewtable.registry import KINDS, SHOWN, Registry, find_module, validate
from fewtable.resolve import Run
from fewtable.specs import UserConfig


@dataclass
class Findings:
    """What ``fewtable check`` found: errors, things missing with the cells that they block, and counts."""

    errors: list[str] = field(default_factory=list)
    blocked: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> ``table or figure: cell`` that it blocks."""
    counts: dict[str, int] = field(default_factory=dict)

    def render(self) -> str:
        """Return the findings as text."""
        lines = [", ".join(f"{count} {kind}" for kind, count in self.counts.items())]
        for reason, cells in self.blocked.items():
            lines.append(
                f"missing: {reason}\n  blocks {len(cells)} cells: {', '.join(cells[:4])}" + ", ..." * (len(cells) > 4)
            )
        lines += [f"error: {error}" for error in self.errors]
        lines.append("all config is valid" if not self.errors else f"{len(self.errors)} errors")
        return "\n".join(lines)


def check(plan: Plan) -> Findings:
    """Validate every YAML, every reader, and every run of every table and figure; collect what blocks cells."""
    found = Findings()
    registry = plan.registry
    for kind, spec in KINDS.items():
        names = registry.names(kind)
        found.counts[kind] = len(names)
        for name in names:
            try:
                registry.get(kind, name, spec)
            except FewtableError as error:
                found.errors.append(str(error))
    for name in registry.names("datasets"):
        _try(found, partial(_check_reader, plan, name))
    for name in registry.names("methods"):
        _try(found, partial(_check_method, plan, name))
    for name in registry.names("corpora"):
        _try(found, partial(plan.passage_files, name))
        _try(found, partial(plan.counting_backbone, name))
    _try(found, lambda: check_user(registry, plan.user))
    _try(found, lambda: _check_targets(registry))
    for kind, name in registry.all(*OF_CELLS):
        _try(found, partial(_check_runs, plan, kind, name, found))
    for name in registry.names("statistics"):
        _try(found, partial(_check_statistics, plan, name, found))
    for name in registry.names("bands"):
        _try(found, partial(plan.bands_file, name))
    for name in registry.names("views"):
        _try(found, partial(plan.looks, name))
    return found


def check_user(registry: Registry, user: UserConfig) -> None:
    """Check the names that the user's config holds: a misspelt one would change nothing, and nobody would know.

    Raises:
        ConfigError: a table, setting, method or dataset is unknown (with the nearest known one).
    """
    for key, kind, names in (
        ("tables", "tables", user.tables),
        ("licensed", "datasets", user.licensed),
        ("draws", "settings", user.draws),
        ("overrides", "methods", user.overrides),
    ):
        for name in names:
            if name not in registry.names(kind):
                raise ConfigError(
                    f"unknown {kind.removesuffix('s')} '{name}'",
                    where=f"config/config.yaml:{key}",
                    fix=did_you_mean(name, registry.names(kind)),
                )


def _try(found: Findings, action: Callable[[], object]) -> None:
    try:
        action()
    except FewtableError as error:
        if str(error) not in found.errors:
            found.errors.append(str(error))


def _check_reader(plan: Plan, dataset: str) -> None:
    spec = plan.registry.dataset(dataset)
    where = f"{plan.registry.root}/datasets/{dataset}.yaml"
    module = find_module("data.readers", spec.reader, f"{where}:reader")
    validate(module.Options, spec.options, f"{where}:options")


def _check_method(plan: Plan, name: str) -> None:
    """Resolve a method on a backbone that fits, and where each ``when`` holds: all that it says is looked at."""
    spec = plan.registry.method(name)
    where = f"{plan.registry.root}/methods/{name}.yaml"
    kinds = find_module("families", spec.family, f"{where}:family").BACKBONES
    names = {kind: plan.registry.names(f"{kind}s") for kind in ("dataset", "setting", "backbone")}
    if _from_source(plan.registry, name):
        names["dataset"] = tuple(name for name in names["dataset"] if plan.registry.dataset(name).source)
    fitting = [b for b in names["backbone"] if plan.registry.backbone(b).kind in kinds]
    if not fitting:
        raise ConfigError(f"no backbone is of a kind in {sorted(kinds)}", where=f"{where}:family")
    if source := plan.method(Run(names["dataset"][0], "full", name, fitting[0])).init:
        plan.method(source)
        plan.blocked(source.dataset, source.setting)
    for when in spec.when:
        given = {kind: getattr(when, kind) for kind in names}
        for kind, values in given.items():
            for value in values:
                if value not in names[kind]:
                    fix = did_you_mean(value, names[kind])
                    raise ConfigError(f"unknown {kind} '{value}'", where=f"{where}:when", fix=fix)
        dataset, setting = given["dataset"] or names["dataset"], given["setting"] or ("full",)
        backbone = given["backbone"] or fitting
        plan.method(Run(dataset[0], setting[0], name, backbone[0]))


def _from_source(registry: Registry, name: str) -> bool:
    """Say whether a method starts from its dataset's source domain, itself or the method that it starts from does."""
    init = registry.method(name).init
    if init is None or init.dataset:
        return False
    return init.source or (init.method not in (None, name) and _from_source(registry, str(init.method)))


def _check_targets(registry: Registry) -> None:
    """Check that no two kinds share a name: both would write results/NAME.csv."""
    seen: dict[str, str] = {}
    for kind, name in registry.all(*SHOWN):
        if name in seen:
            raise ConfigError(
                f"'{name}' stands under {seen[name]} too", where=f"{registry.root}/{kind}/{name}.yaml", fix="rename one"
            )
        seen[name] = kind


def _check_statistics(plan: Plan, name: str, found: Findings) -> None:
    for place, (dataset, splits) in plan.counted(name).items():
        if reason := plan.missing(dataset, splits):
            found.blocked.setdefault(reason, []).append(f"{name}: {place}")


def _check_runs(plan: Plan, kind: str, name: str, found: Findings) -> None:
    if kind == "tables":
        check_oracles(plan, name)
    for run in dict.fromkeys(plan.runs(kind, name).values()):
        plan.method(run)
        plan.blocks(run.setting)
        cell = f"{name}: {run.key}"
        if reason := plan.unavailable(run):
            found.blocked.setdefault(reason, []).append(cell)
        backbone = plan.registry.backbone(run.backbone)
        if backbone.hub and not backbone.unavailable and not Path(f"results/backbones/{run.backbone}").exists():
            reason = f"weights of {run.backbone} are not here; they will be downloaded from the hub ({backbone.hub})"
            found.blocked.setdefault(reason, []).append(cell)
        if backbone.gpu and not _has_gpu():
            found.blocked.setdefault("no GPU on this machine; use --profile slurm where there is one", []).append(cell)


def check_oracles(plan: Plan, name: str) -> None:
    """Check that a table says where it shows what an oracle told, and that no column or average mixes the two.

    Raises:
        ConfigError: a row with an oracle is not listed as such, a row is that has none, or a column that another may
            stand for, or that is averaged with others, is marked and they are not.
    """
    spec, registry = plan.registry.table(name), plan.registry
    where = f"{registry.root}/tables/{name}.yaml"
    marked = {column.id: registry.setting(column.setting).oracle is not None for column in spec.columns}
    told = {row.id: False for row in spec.rows}
    own = {column.id: (registry.setting(column.setting).oracle or "").strip() for column in spec.columns}
    for place, key in spec.cells.items():
        row_id, column_id = place.split("/")[:2]
        told[row_id] |= bool(set(plan.oracles(Run(*key.split("/")))) - {own[column_id]})
    for one in spec.rows:
        if one.oracle != told[one.id] and not (told[one.id] and all(marked.values())):
            text = "is told what nobody knows, and the row does not say so" if told[one.id] else "has no oracle"
            raise ConfigError(f"row '{one.id}' {text}", where=f"{where}:rows", fix="mend its 'oracle' (true or false)")
    for column in spec.columns:
        if any((registry.setting(other.setting).oracle is not None) != marked[column.id] for other in column.instead):
            raise ConfigError(
                f"of column '{column.id}' and what may stand there, one is an oracle's and the other is not",
                where=f"{where}:columns",
            )
    for average in spec.averages:
        if len({marked[column] for column in average.columns}) > 1:
            raise ConfigError(f"'{average.id}' averages an oracle's columns with others", where=f"{where}:averages")


def _has_gpu() -> bool:
    return Path("/proc/driver/nvidia").exists() or Path("/dev/nvidia0").exists()
