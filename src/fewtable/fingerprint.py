"""A digest of the library code that a job really uses, so that an edit reruns the jobs it can change.

Snakemake does not see edits of imported modules. From an entry (a script, or a symbol) this follows
names from definition to definition through this package, over the parsed source: comments, docstrings and
formatting don't count, and neither do definitions in the same file that the entry never reaches, nor methods
whose name no reached code mentions (so an edited parser does not retrain what only renders).
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewtable.errors import DataError
from fewtable.files import digest, sha256_file, write_json

PACKAGE = "fewtable"
Symbol = tuple[str, str]
"""(module, name); the name "" stands for the whole module."""


@dataclass(frozen=True)
class _Unit:
    """A top-level statement: its digest and the names it reads."""

    digest: str
    uses: tuple[str, ...]


@dataclass(frozen=True)
class _Module:
    definitions: dict[str, list[_Unit]]
    methods: dict[str, dict[str, _Unit]]
    """Class -> its methods that run only when somebody names them."""
    effects: list[_Unit]
    """Statements that define nothing by name but run at import."""
    imports: dict[str, list[Symbol]]
    """Local name -> what it stands for in this package."""


class _StripDocstrings(ast.NodeTransformer):
    """Drops strings that stand alone: docstrings of modules, classes and functions, and those of attributes."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        alone = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if alone else node


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _bound_names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        targets: list[ast.expr] = node.targets
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        targets = [node.target]
    else:
        return []
    return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]


def _imports(node: ast.AST) -> Iterator[tuple[str, Symbol]]:
    for child in ast.walk(node):
        if isinstance(child, ast.ImportFrom) and (child.module or "").split(".")[0] == PACKAGE:
            for alias in child.names:
                yield alias.asname or alias.name, (child.module or "", alias.name)
        elif isinstance(child, ast.Import):
            for alias in child.names:
                if alias.name.split(".")[0] == PACKAGE:
                    yield alias.asname or alias.name.split(".")[0], (alias.name, "")


def _is_plain(class_: ast.ClassDef, local: set[str]) -> bool:
    """Tell whether all bases are of this package (or Protocol): only then nobody else calls its methods."""
    return all(isinstance(base, ast.Name) and base.id in local | {"Protocol"} for base in class_.bases)


def _take_methods(class_: ast.ClassDef) -> dict[str, _Unit]:
    """Take the undecorated, non-dunder methods out of ``class_`` and return them as units."""
    taken = [
        node
        for node in class_.body
        if isinstance(node, ast.FunctionDef) and not node.decorator_list and not node.name.startswith("__")
    ]
    class_.body = [node for node in class_.body if node not in taken]
    return {node.name: _unit(node) for node in taken}


def _unit(node: ast.AST) -> _Unit:
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} | {local for local, _ in _imports(node)}
    attributes = {"." + n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
    return _Unit(hashlib.sha256(ast.dump(node).encode()).hexdigest(), tuple(sorted(names | attributes)))


def _parse(path: Path) -> _Module:
    try:
        tree = _StripDocstrings().visit(ast.parse(path.read_bytes(), str(path)))
    except SyntaxError as error:
        raise DataError(f"not Python: {error.msg}", where=f"{path}:{error.lineno}") from None
    module = _Module({}, {}, [], {})
    local = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in tree.body:
        if _is_type_checking(node):
            continue
        for name, target in _imports(node):
            module.imports.setdefault(name, []).append(target)
        if isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.ClassDef) and _is_plain(node, local | set(module.imports)):
            module.methods[node.name] = _take_methods(node)
        unit = _unit(node)
        names = _bound_names(node)
        for name in names:
            module.definitions.setdefault(name, []).append(unit)
        if not names:
            module.effects.append(unit)
    return module


class Fingerprints:
    """Digests of entries, over the sources in ``source`` (the folder that holds the package)."""

    def __init__(self, source: Path, cache: Path | None = None) -> None:
        self.source = source
        self.cache = cache
        self._stored: dict[str, Any] = {}
        self._fresh = False
        self._modules: dict[str, _Module] = {}
        self._done: dict[tuple[str, ...], str] = {}
        # Another way of parsing, or another Python's syntax tree, gives other digests.
        self._version = [sha256_file(Path(__file__)), sys.version_info[0], sys.version_info[1]]
        if cache is not None and cache.exists():
            self._stored = self._read_cache(cache)

    def of(self, *entries: str) -> str:
        """Return the digest of entries: a script's path ``x/y.py``, ``module`` or ``module:symbol``."""
        if entries not in self._done:
            self._done[entries] = self._closure(entries)
        return self._done[entries]

    def save(self) -> None:
        """Write the cache, when anything was parsed anew."""
        if self.cache is not None and self._fresh:
            write_json(self.cache, {"version": self._version, "files": self._stored})
            self._fresh = False

    def _read_cache(self, cache: Path) -> dict[str, Any]:
        """Return what an earlier process parsed; a cache of another version or shape is made anew."""
        try:
            stored = json.loads(cache.read_text(encoding="utf-8"))
            files: dict[str, Any] = stored["files"] if stored["version"] == self._version else {}
            for entry in files.values():
                _from_json(entry)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return {}
        return files

    def _closure(self, entries: Iterable[str]) -> str:
        todo: list[Symbol] = [self._entry(entry) for entry in entries]
        seen: set[Symbol] = set()
        attributes: set[str] = set()
        waiting: dict[str, list[tuple[str, str, _Unit]]] = {}
        found: set[tuple[str, str, str]] = set()

        def reach(where: str, name: str, unit: _Unit) -> None:
            """Count a unit in, and all that it names."""
            key = (where, name, unit.digest)
            if key in found:
                return
            found.add(key)
            todo.extend(self._resolve(where, unit.uses))
            for attribute in (use for use in unit.uses if use.startswith(".")):
                attributes.add(attribute)
                for other in waiting.pop(attribute, ()):
                    reach(*other)

        while todo:
            symbol = todo.pop()
            if symbol in seen:
                continue
            seen.add(symbol)
            for name, unit in self._units(symbol):
                reach(symbol[0], name, unit)
            for class_, name, unit in self._methods(symbol):
                if "." + name in attributes:
                    reach(symbol[0], f"{class_}.{name}", unit)
                else:
                    waiting.setdefault("." + name, []).append((symbol[0], f"{class_}.{name}", unit))
            todo.extend(self._reexports(symbol))
        return digest(sorted(found))[:16]

    def _entry(self, entry: str) -> Symbol:
        if entry.endswith(".py"):
            return (entry, "")
        module, _, name = entry.partition(":")
        return (module, name)

    def _units(self, symbol: Symbol) -> Iterator[tuple[str, _Unit]]:
        module = self._module(symbol[0])
        if module is None:
            return
        for unit in module.effects:
            yield "<effect>", unit
        for name, units in module.definitions.items():
            if symbol[1] in ("", name):
                yield from ((name, unit) for unit in units)

    def _methods(self, symbol: Symbol) -> Iterator[tuple[str, str, _Unit]]:
        module = self._module(symbol[0])
        if module is None:
            return
        for class_, methods in module.methods.items():
            if symbol[1] in ("", class_):
                yield from ((class_, name, unit) for name, unit in methods.items())

    def _resolve(self, where: str, names: Iterable[str]) -> Iterator[Symbol]:
        module = self._module(where)
        assert module is not None
        for name in names:
            if name in module.definitions:
                yield (where, name)
            yield from module.imports.get(name, ())

    def _reexports(self, symbol: Symbol) -> Iterator[Symbol]:
        """Follow a name that a module only passes on, and a name that is a submodule."""
        module = self._module(symbol[0])
        if module is None:
            return
        if symbol[1] == "":
            for targets in module.imports.values():
                yield from targets
        elif symbol[1] not in module.definitions:
            yield from module.imports.get(symbol[1], ())
            submodule = f"{symbol[0]}.{symbol[1]}"
            if self._path(submodule) is not None:
                yield (submodule, "")

    def _path(self, module: str) -> Path | None:
        if module.endswith(".py"):
            return Path(module)
        base = self.source.joinpath(*module.split("."))
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.exists():
                return path
        return None

    def _module(self, name: str) -> _Module | None:
        if name not in self._modules:
            path = self._path(name)
            if path is None:
                return None
            self._modules[name] = self._load(path)
        return self._modules[name]

    def _load(self, path: Path) -> _Module:
        status = path.stat()
        stamp = [status.st_mtime_ns, status.st_size]
        stored = self._stored.get(str(path))
        if stored is None or stored["stamp"] != stamp:
            module = _parse(path)
            self._stored[str(path)] = {"stamp": stamp, **_to_json(module)}
            self._fresh = True
            return module
        return _from_json(stored)


def _to_json(module: _Module) -> dict[str, Any]:
    def units(items: list[_Unit]) -> list[Any]:
        return [[unit.digest, list(unit.uses)] for unit in items]

    return {
        "definitions": {name: units(items) for name, items in module.definitions.items()},
        "methods": {c: {n: [u.digest, list(u.uses)] for n, u in m.items()} for c, m in module.methods.items()},
        "effects": units(module.effects),
        "imports": {name: [list(t) for t in targets] for name, targets in module.imports.items()},
    }


def _from_json(stored: dict[str, Any]) -> _Module:
    def units(items: list[Any]) -> list[_Unit]:
        return [_Unit(d, tuple(uses)) for d, uses in items]

    return _Module(
        {name: units(items) for name, items in stored["definitions"].items()},
        {c: {n: _Unit(u[0], tuple(u[1])) for n, u in m.items()} for c, m in stored["methods"].items()},
        units(stored["effects"]),
        {name: [(t[0], t[1]) for t in targets] for name, targets in stored["imports"].items()},
    )
