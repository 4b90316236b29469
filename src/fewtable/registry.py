"""YAML under config/ -> typed specs: ``extends``, unknown names with did-you-mean, errors as file:key.

Also finds the modules that YAML names: readers, formats, families. Imports nothing heavy.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType, NoneType
from typing import Any, TypeVar, get_args

import yaml
from pydantic import ValidationError

from fewtable.backbone_spec import BackboneSpec
from fewtable.errors import ConfigError, did_you_mean
from fewtable.layouts import BandsSpec, FigureSpec, StatisticsSpec, TableSpec
from fewtable.passages.spec import CorpusSpec
from fewtable.specs import (
    DatasetSpec,
    MethodSpec,
    MixtureSpec,
    SettingSpec,
    Spec,
    UserConfig,
)
from fewtable.teachers.spec import TeacherSpec
from fewtable.views.spec import CasesSpec, ViewSpec

S = TypeVar("S", bound=Spec)

KINDS: dict[str, type[Spec]] = {
    "datasets": DatasetSpec,
    "settings": SettingSpec,
    "methods": MethodSpec,
    "backbones": BackboneSpec,
    "corpora": CorpusSpec,
    "teachers": TeacherSpec,
    "tables": TableSpec,
    "figures": FigureSpec,
    "statistics": StatisticsSpec,
    "bands": BandsSpec,
    "views": ViewSpec,
    "cases": CasesSpec,
}
"""Folder under config/ -> the spec of its files."""
SHOWN = ("tables", "figures", "statistics", "bands", "views", "cases")
"""The kinds that are targets by name; theirs may lie one folder down: ``PAPER/table1``."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping, an empty one from an empty file; raise ConfigError with file:line when it is not one."""
    content = path.read_bytes()
    safe_loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # C: ten times faster
    try:
        value = safe_loader(content.decode()).get_single_data()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError("not UTF-8", where=f"{path}:{line}", fix="save the file as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"not YAML: {error.problem}", where=f"{path}:{line}") from None
    except yaml.reader.ReaderError as error:
        line = content[: error.position].count(b"\n") + 1
        raise ConfigError(f"not YAML: {error.reason}", where=f"{path}:{line}") from None
    except ValueError as error:  # a date that there is not
        raise ConfigError(
            f"not YAML: {error}", where=str(path), fix="put texts that look like dates in quotes"
        ) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError("the file must hold a mapping", where=f"{path}:1")
    return value


def validate(spec: type[S], value: Mapping[str, Any], where: str) -> S:
    """Validate ``value``; raise ConfigError naming ``where:key``, with the nearest known key."""
    try:
        return spec.model_validate(value)
    except ValidationError as error:
        # An unknown key first: it is often the misspelt name of one that is said to be missing.
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        fix = None
        if first["type"] == "extra_forbidden":
            fix = did_you_mean(str(first["loc"][-1]), _fields_at(spec, first["loc"][:-1]))
        more = f" (and {len(error.errors()) - 1} more)" if len(error.errors()) > 1 else ""
        raise ConfigError(first["msg"] + more, where=f"{where}:{key}" if key else where, fix=fix) from None


def _fields_at(kind: Any, location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are known at a place inside a spec: in a spec, in a mapping's value, in a list's item."""
    if isinstance(kind, type) and issubclass(kind, Spec):
        if not location:
            return list(kind.model_fields)
        field = kind.model_fields.get(str(location[0]))
        return _fields_at(field.annotation, location[1:]) if field else []
    optional = NoneType in get_args(kind)
    inner = [part for part in get_args(kind) if part not in (NoneType, Ellipsis)]
    # X of X | None is at the same place, that of dict[str, X] and tuple[X, ...] one further.
    return _fields_at(inner[-1], location if optional else location[1:]) if inner else []


def deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` laid on top; mappings merge key by key, all else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = deep_merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


class Registry:
    """All specs under a config folder, read when asked for and kept."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._specs: dict[tuple[str, str], Spec] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._lineages: dict[tuple[str, str], tuple[str, ...]] = {}

    def names(self, kind: str) -> tuple[str, ...]:
        """Return the registered names of a kind (``datasets``, ``methods``, ...), sorted."""
        if kind not in self._names:
            folder = self.root / kind
            files = [f for p in ("*.yaml", "*/*.yaml")[: 1 + (kind in SHOWN)] for f in folder.glob(p)]
            names = (f.relative_to(folder).with_suffix("").as_posix() for f in files if not f.name.startswith("_"))
            self._names[kind] = tuple(sorted(names))
        return self._names[kind]

    def all(self, *kinds: str) -> list[tuple[str, str]]:
        """Return (kind, name) of all that is registered of some kinds."""
        return [(kind, name) for kind in kinds for name in self.names(kind)]

    def get(self, kind: str, name: str, spec: type[S]) -> S:
        """Return the spec of ``name``.

        Raises:
            ConfigError: the name is unknown (with the nearest known one) or its file is wrong.
        """
        key = (kind, name)
        if key not in self._specs:
            if name not in self.names(kind):
                raise ConfigError(
                    f"unknown {'corpus' if kind == 'corpora' else kind.removesuffix('s')} '{name}'",
                    where=f"{self.root / kind}",
                    fix=did_you_mean(name, self.names(kind)),
                )
            path = self.root / kind / f"{name}.yaml"
            value = self._extended(path, ())
            if kind == "datasets":
                value = self._mixed(value, str(path)) if value.get("mixture") else value
                value = self._of_domains(value) if value.get("domains") else value
            self._specs[key] = validate(KINDS[kind], value, str(path))
        found = self._specs[key]
        assert isinstance(found, spec)
        return found

    def lineage(self, kind: str, name: str) -> tuple[str, ...]:
        """Return a registered name and what its file extends, the nearest first."""
        key = (kind, name)
        if key not in self._lineages:
            parent = read_yaml(self.root / kind / f"{name}.yaml").get("extends")
            self._lineages[key] = (name, *(self.lineage(kind, str(parent)) if parent else ()))
        return self._lineages[key]

    def _extended(self, path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
        """Read ``path`` and lay it over the file that its ``extends`` names (``_base`` files are allowed)."""
        value = read_yaml(path)
        parent = value.pop("extends", None)
        if parent is None:
            return value
        base = path.with_name(f"{parent}.yaml")
        if base in (*seen, path):
            raise ConfigError("'extends' goes in a circle", where=f"{path}:extends")
        if not base.exists():
            known = [f.stem for f in path.parent.glob("*.yaml")]
            raise ConfigError(
                f"extends unknown '{parent}'", where=f"{path}:extends", fix=did_you_mean(str(parent), known)
            )
        return deep_merge(self._extended(base, (*seen, path)), value)

    def _mixed(self, value: dict[str, Any], where: str) -> dict[str, Any]:
        """Return a mixture's value with the files, reader and types that follow from its datasets."""
        mixture = validate(MixtureSpec, value["mixture"], f"{where}:mixture")
        files: dict[str, Any] = {}
        types: dict[str, Any] = {}
        for name in mixture.datasets:
            spec = self.dataset(name)
            if mixture.split not in spec.splits:
                raise ConfigError(
                    f"dataset '{name}' has no split '{mixture.split}'",
                    where=f"{where}:mixture",
                    fix=f"it has {', '.join(sorted(spec.splits))}",
                )
            files[f"{name}.jsonl"] = {"sources": [{"path": f"results/data/{name}/{mixture.split}.jsonl"}]}
            types |= {f"{name}/{kind}": spec.types[kind].model_dump() for kind in spec.types}
        made = {
            "reader": "sentences",
            "options": {"mixed": True, "limit": mixture.limit},
            "files": files,
            "splits": {mixture.split: {"files": list(files)}},
            "types": types,
        }
        return made | value

    def _of_domains(self, value: dict[str, Any]) -> dict[str, Any]:
        """Return the value of a dataset of several domains with the types of each."""
        types = {
            f"{domain}/{kind}": spec.model_dump()
            for domain, name in value["domains"].items()
            for kind, spec in self.dataset(name).types.items()
        }
        return value | {"types": types}

    def dataset(self, name: str) -> DatasetSpec:
        """Return a dataset's spec."""
        return self.get("datasets", name, DatasetSpec)

    def setting(self, name: str) -> SettingSpec:
        """Return a setting's spec."""
        return self.get("settings", name, SettingSpec)

    def method(self, name: str) -> MethodSpec:
        """Return a method's spec."""
        return self.get("methods", name, MethodSpec)

    def backbone(self, name: str) -> BackboneSpec:
        """Return a backbone's spec."""
        return self.get("backbones", name, BackboneSpec)

    def corpus(self, name: str) -> CorpusSpec:
        """Return a corpus's spec."""
        return self.get("corpora", name, CorpusSpec)

    def teacher(self, name: str) -> TeacherSpec:
        """Return a teacher's spec."""
        return self.get("teachers", name, TeacherSpec)

    def table(self, name: str) -> TableSpec:
        """Return a table's spec."""
        return self.get("tables", name, TableSpec)

    def figure(self, name: str) -> FigureSpec:
        """Return a figure's spec."""
        return self.get("figures", name, FigureSpec)

    def statistics(self, name: str) -> StatisticsSpec:
        """Return the spec of a table of statistics."""
        return self.get("statistics", name, StatisticsSpec)

    def bands(self, name: str) -> BandsSpec:
        """Return the spec of a table of frequency bands."""
        return self.get("bands", name, BandsSpec)

    def view(self, name: str) -> ViewSpec:
        """Return a view's spec."""
        return self.get("views", name, ViewSpec)

    def cases(self, name: str) -> CasesSpec:
        """Return the spec of a table of cases."""
        return self.get("cases", name, CasesSpec)


def user_config(value: Mapping[str, Any], where: str = "config/config.yaml") -> UserConfig:
    """Validate the user's config."""
    return validate(UserConfig, value, where)


@cache
def modules(package: str) -> tuple[str, ...]:
    """Return the public module names of a subpackage of fewtable (``formats``), as YAML spells them."""
    parent = importlib.import_module(f"fewtable.{package}")
    found = (m.name for m in pkgutil.iter_modules(parent.__path__))
    return tuple(sorted(n.replace("_", "-") for n in found if n != "base" and not n.startswith("_")))


def find_module(package: str, name: str, where: str) -> ModuleType:
    """Import the module of a format, family or reader that a YAML file names.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in modules(package):
        raise ConfigError(
            f"unknown {package.rpartition('.')[2].removesuffix('s')} '{name}'",
            where=where,
            fix=did_you_mean(name, modules(package)),
        )
    return importlib.import_module(f"fewtable.{package}.{name.replace('-', '_')}")
