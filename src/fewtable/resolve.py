"""A run's names -> the resolved spec of its method: YAML, ``when``, the user's overrides, the family's checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fewtable.errors import ConfigError
from fewtable.registry import Registry, deep_merge, find_module, validate
from fewtable.specs import InitSpec, MethodSpec, UserConfig, When


class Run(NamedTuple):
    """Method x backbone on (dataset, setting)."""

    dataset: str
    setting: str
    method: str
    backbone: str

    @property
    def key(self) -> str:
        """The run's path: DATASET/SETTING/METHOD/BACKBONE."""
        return "/".join(self)


@dataclass(frozen=True)
class Method:
    """A method as it holds for one run, all defaults filled in."""

    spec: MethodSpec
    family: str
    format: str
    format_options: dict[str, Any]
    uses: frozenset[str]
    """The parts of a type that its format shows: of {"words", "definition"}."""
    parsing: frozenset[str]
    """The format's options that only parsing reads."""
    train: dict[str, Any]
    decode: dict[str, Any]
    init: Run | None


def resolve(registry: Registry, user: UserConfig, run: Run) -> Method:
    """Resolve the method of ``run``.

    Raises:
        ConfigError: a name is unknown, a hyper-parameter is not the family's, or family, format and
            backbone do not fit together, or the setting asks what the family cannot.
    """
    registry.dataset(run.dataset)
    registry.setting(run.setting)
    spec = registry.method(run.method)
    where = str(registry.root / "methods" / f"{run.method}.yaml")
    value: dict[str, Any] = {"train": spec.train, "decode": spec.decode, "format": spec.format}
    for when in spec.when:
        if _holds(when, run, registry.lineage("settings", run.setting)):
            value = _lay(value, when.set, f"{where}:when")
    override = user.overrides.get(run.method, {})
    place = {section: f"{where}:{section}" for section in value}
    if override:
        own = f"config/config.yaml:overrides.{run.method}"
        value = _lay(value, override, own)
        place |= {section: f"{own}.{section}" for section in override}

    family = find_module("families", spec.family, f"{where}:family")
    options = dict(value["format"])
    name = str(options.pop("name", ""))
    format_class = find_module("formats", name, f"{where}:format.name").FORMAT
    kinds = {family.OUTPUT} if isinstance(family.OUTPUT, str) else family.OUTPUT
    if format_class.kind not in kinds:
        written = " or ".join(sorted(kinds))
        raise ConfigError(
            f"family '{spec.family}' writes {written}, format '{name}' reads {format_class.kind}",
            where=f"{where}:format.name",
            fix=f"a format of kind '{written}'",
        )
    _check_backbone(registry, run, family.BACKBONES)
    if registry.setting(run.setting).sampler.pool and "text" not in kinds:
        raise ConfigError(
            f"family '{spec.family}' asks about all types at once, and setting '{run.setting}' about those that a "
            "sentence holds",
            where=run.key,
            fix="a method whose model writes text, or a setting without sampler.pool",
        )
    return Method(
        spec=spec,
        family=spec.family,
        format=name,
        format_options=validate(format_class.Options, options, place["format"]).model_dump(mode="json"),
        uses=format_class.uses,
        parsing=format_class.parsing,
        train=validate(family.Train, value["train"], place["train"]).model_dump(mode="json"),
        decode=validate(family.Decode, value["decode"], place["decode"]).model_dump(mode="json"),
        init=_init(registry, run, spec.init, where) if spec.init else None,
    )


def _init(registry: Registry, run: Run, init: InitSpec, where: str) -> Run:
    """Return the run that a run starts from."""
    dataset, setting = init.dataset or run.dataset, init.setting or run.setting
    if init.source:
        source = registry.dataset(run.dataset).source
        if source is None:
            raise ConfigError(
                f"method '{run.method}' starts from the source domain of its dataset, and '{run.dataset}' names none",
                where=f"{where}:init.source",
                fix=f"name a dataset under 'source' in config/datasets/{run.dataset}.yaml",
            )
        registry.dataset(source)
        dataset, setting = source, "full"
    return Run(dataset, setting, init.method or run.method, run.backbone)


def _holds(when: When, run: Run, settings: Sequence[str]) -> bool:
    """Say whether a ``when`` is about a run; ``settings`` are the run's own and those that it extends."""
    return all(
        not names or not set(names).isdisjoint(own)
        for names, own in ((when.dataset, [run.dataset]), (when.setting, settings), (when.backbone, [run.backbone]))
    )


def _lay(value: dict[str, Any], over: Mapping[str, Any], where: str) -> dict[str, Any]:
    if unknown := sorted(set(over) - set(value)):
        raise ConfigError(f"'{unknown[0]}' cannot be set here", where=where, fix=f"one of {', '.join(sorted(value))}")
    return deep_merge(value, over)


def _check_backbone(registry: Registry, run: Run, accepted: frozenset[str]) -> None:
    kind = registry.backbone(run.backbone).kind
    if kind not in accepted:
        fitting = [n for n in registry.names("backbones") if registry.backbone(n).kind in accepted]
        raise ConfigError(
            f"method '{run.method}' cannot run on backbone '{run.backbone}' (kind {kind})",
            where=run.key,
            fix=f"backbones that fit: {', '.join(fitting)}",
        )
