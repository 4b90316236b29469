"""What the tracking store is told about a cell: tags, params, metrics, curves. Pure, without MLflow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewtable.errors import DataError
from fewtable.files import digest, dumps, read_json, sha256_file

LAYOUT = 1
"""Raised when a cell is told in another way, so that cells already in a store are told anew."""

LABELS = ("paper", "tables")
"""Tags that stand in the configuration and not in the cell; they change without a new run."""

MAX_CHILDREN = 20
"""Draws that get a child run; of cells with more (episodes), the parent holds all draws as curves."""

_MAX_VALUE = 6000  # MLflow's limit of a param
_MAX_KEY = 250
_REFUSED = re.compile(r"[^\w\-. :/]", re.ASCII)  # MLflow's limit of a name


@dataclass(frozen=True, slots=True)
class Point:
    """A metric's value at a step."""

    name: str
    value: float
    step: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """What one run of the store holds. ``tags`` has the run's name under ``mlflow.runName``."""

    tags: dict[str, str]
    params: dict[str, str]
    metrics: list[Point]


@dataclass(frozen=True, slots=True)
class Record:
    """A cell as the store holds it: a parent run, and a child run a draw.

    ``key`` is DATASET/SETTING/METHOD/BACKBONE, ``digest`` stands for the cell's content, ``time`` is the
    cell file's age in milliseconds since 1970 (so that a rebuilt store shows the same times), ``data`` maps
    a split to its SHA-256, ``labels`` are those of the parent's tags that stand in the configuration.
    """

    key: str
    digest: str
    time: int
    parent: Told
    children: dict[int, Told]
    data: dict[str, str]
    labels: dict[str, str]


def cell_files(results: Path) -> dict[str, Path]:
    """Return the finished cells: key -> file, sorted by key."""
    root = results / "cells"
    files = (f for f in root.glob("*/*/*/*.json") if not f.name.startswith("."))
    return {f.relative_to(root).as_posix().removesuffix(".json"): f for f in sorted(files)}


def content_digest(path: Path) -> str:
    """Return what stands for a cell file's content in a store."""
    return digest([LAYOUT, sha256_file(path)])[:32]


def name(text: str) -> str:
    """Return ``text`` as a name that MLflow takes: letters, digits and ``_-. :/``, 250 at most."""
    return _REFUSED.sub("_", text)[:_MAX_KEY]


def flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, text) of a resolved spec; lists as JSON; ``types`` stays one value of names."""
    for key, item in value.items():
        path = f"{prefix}{key}"
        if path == "types":
            yield path, ", ".join(item)
        elif isinstance(item, Mapping):
            yield from flatten(item, f"{path}.")
        elif item is not None:
            yield path, item if isinstance(item, str) else dumps(item)


def params(value: Mapping[str, Any]) -> dict[str, str]:
    """Return a spec as params: flat, with names and lengths that MLflow takes."""
    out: dict[str, str] = {}
    for key, text in flatten(value):
        out[name(key)] = text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 1] + "…"
    return out


def read_record(results: Path, key: str, labels: Mapping[str, str]) -> Record:
    """Read a cell and its training logs.

    Args:
        results: the results folder.
        key: DATASET/SETTING/METHOD/BACKBONE.
        labels: tags from the configuration (``paper``, ``tables``).

    Raises:
        DataError: the cell is not what a cell should be.
    """
    path = results / "cells" / f"{key}.json"
    fingerprint = content_digest(path)
    time = int(path.stat().st_mtime * 1000)
    cell = read_json(path)
    try:
        parent = Told(
            _tags(cell, key, fingerprint) | dict(labels),
            params(cell["spec"]),
            [*_metrics(cell), *_draw_curves(cell)],
        )
        children = {draw: _child(results, cell, key, fingerprint, draw) for draw in cell["draws"][:MAX_CHILDREN]}
        return Record(key, fingerprint, time, parent, children, dict(cell["data"]), dict(labels))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"not a cell: {error!r}", where=str(path), fix="remove the file and run its target again"
        ) from None


def _tags(cell: Mapping[str, Any], key: str, fingerprint: str) -> dict[str, str]:
    title = f"{cell['method']} · {cell['backbone']} · {cell['dataset']} {cell['setting']}"
    tags = {"mlflow.runName": title, "fewtable.cell": key, "fewtable.digest": fingerprint}
    tags |= {word: cell[word] for word in ("dataset", "setting", "method", "backbone")}
    if cell.get("flags"):
        tags["flags"] = ", ".join(cell["flags"])
    return tags


def _metrics(cell: Mapping[str, Any]) -> Iterator[Point]:
    for metric, entry in sorted(cell["metrics"].items()):
        for part, value in entry.items():
            if value is not None:
                yield Point(name(metric if part == "mean" else f"{metric}.{part}"), float(value))
    for kind, entry in sorted(cell["per_type"].items()):
        for part, value in entry.items():
            if value is not None:
                yield Point(name(f"type/{kind}/{part}"), float(value))
    for cause, count in sorted(cell["dropped"].items()):
        yield Point(name(f"dropped/{cause}"), float(count))


def _draw_curves(cell: Mapping[str, Any]) -> Iterator[Point]:
    if len(cell["draws"]) <= MAX_CHILDREN:
        return
    for draw, values in sorted(cell["per_draw"].items(), key=lambda item: int(item[0])):
        yield from (
            Point(name(f"draw/{metric}"), float(value), int(draw))
            for metric, value in sorted(values.items())
            if value is not None
        )


def _child(results: Path, cell: Mapping[str, Any], key: str, fingerprint: str, draw: int) -> Told:
    tags = _tags(cell, key, fingerprint)
    tags |= {"mlflow.runName": f"{tags['mlflow.runName']} · draw {draw}", "fewtable.draw": str(draw)}
    header = cell["samples"].get(str(draw), {})
    kept = {k: v for k, v in header.items() if k not in ("solver", "data_sha256")}
    metrics = [
        Point(name(metric), float(value))
        for metric, value in sorted(cell["per_draw"][str(draw)].items())
        if value is not None
    ]
    for block in cell["blocks"]:
        log = results / "runs" / key / block / "model" / str(draw) / "train.jsonl"
        if log.exists():
            metrics.extend(curve(log.read_text(encoding="utf-8"), str(log)))
            break
    return Told(tags, params({"draw": draw, "sample": _counts_as_text(kept)}), metrics)


def _counts_as_text(header: Mapping[str, Any]) -> dict[str, Any]:
    return {k: dumps(v) if isinstance(v, Mapping) else v for k, v in header.items()}


def curve(text: str, where: str) -> Iterator[Point]:
    """Yield the points of a train log: ``{"step": 1, "loss": 0.5, ...}`` a line, named ``train/loss``.

    An unfinished last line (a job is writing) is left out.

    Raises:
        DataError: a finished line is not such an object (with file:line).
    """
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            return
        try:
            row = json.loads(line)
            step = int(row["step"])
            yield from (
                Point(name(f"train/{key}"), float(value), step)
                for key, value in row.items()
                if key != "step" and value is not None
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"not a line of a train log: {error!r}", where=f"{where}:{number}") from None
