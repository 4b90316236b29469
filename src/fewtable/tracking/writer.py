"""The one writer of the tracking store: a lock, an index of what is in it, and batches of finished cells."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewtable.errors import DataError
from fewtable.files import digest, locked, read_json, write_json, write_text
from fewtable.specs import TrackingSpec
from fewtable.tracking.pictures import write_artifacts
from fewtable.tracking.record import cell_files, content_digest, read_record
from fewtable.tracking.store import RefusedError, Store, StoreError, mask, sqlite_file

Labels = Mapping[str, Mapping[str, str]]
"""Cell key -> tags that the cell itself does not know: ``paper``, ``tables``."""


Entries = dict[str, dict[str, Any]]
"""Cell key -> {"digest", "tags", "run_id", "draws"}."""


@dataclass
class Outcome:
    """What a call has done, by cell key."""

    logged: list[str] = field(default_factory=list)
    """Written to the store now, or found there complete."""
    known: list[str] = field(default_factory=list)
    """In the store already, as the index says."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Cells that cannot be logged, and why."""
    delayed: str | None = None
    """Why the store could not be used; what is not logged yet is logged by a later call."""
    entries: Entries = field(default_factory=dict)
    """The cells that are in the store."""

    def summary(self) -> str:
        """Return the one line that a job ends with."""
        line = f"track: {len(self.logged)} cells logged, {len(self.known)} in the store before"
        if self.skipped:
            line += f", {len(self.skipped)} skipped"
        if self.delayed:
            line += f"; the rest is delayed ({self.delayed}), `fewtable track` logs it later"
        return line


def writer_lock(results: Path) -> AbstractContextManager[None]:
    """Return the lock that makes this process the only writer; the system frees it when a process dies."""
    return locked(results / "tracking" / ".lock")


def open_store(results: Path, tracking: TrackingSpec) -> Store:
    """Open the store (call it under the lock: two processes that make the schema at once break it)."""
    return Store(tracking.uri, tracking.experiment, results / "mlartifacts")


def track_all(results: Path, tracking: TrackingSpec, labels: Labels) -> Outcome:
    """Log all finished cells that the store does not hold in their present content.

    Safe to call from many processes and to kill at any point: a cell is in the store once, whole.
    Never raises for a store that is down (``Outcome.delayed``) or a cell that is malformed (``skipped``).

    Args:
        results: the results folder.
        tracking: the store.
        labels: tags from the configuration, by cell key.
    """
    asked = time.time()
    down = results / "tracking" / ".down"
    outcome = Outcome()
    with writer_lock(results):
        if down.exists() and down.stat().st_mtime >= asked:
            # the writer before has just found the store down, while this one was waiting for the lock
            outcome.delayed = down.read_text(encoding="utf-8")
        try:
            _log_pending(results, tracking, labels, _read_index(results, tracking), outcome)
        finally:
            _write_index(results, tracking, outcome)
        if outcome.delayed is not None:
            write_text(down, outcome.delayed)
        for key in outcome.entries:
            output = results / "tracking" / f"{key}.json"
            if output.exists() and read_json(output).get("status") != "logged":
                write_json(output, status(key, outcome, tracking))
    return outcome


def track_cell(results: Path, key: str, output: Path, tracking: TrackingSpec, labels: Labels) -> Outcome:
    """Do track_all and write what became of one cell: the work of a ``track`` job.

    Raises:
        DataError: the cell is missing or malformed.
    """
    outcome = track_all(results, tracking, labels)
    if key in outcome.skipped:
        raise DataError(outcome.skipped[key], where=str(results / "cells" / f"{key}.json"))
    if key not in outcome.entries and outcome.delayed is None:
        raise DataError("no such cell", where=str(results / "cells" / f"{key}.json"))
    write_json(output, status(key, outcome, tracking))
    return outcome


def rebuild(results: Path, tracking: TrackingSpec, labels: Labels) -> Outcome:
    """Make the store anew from the files.

    An sqlite file inside the results folder is replaced as a whole once the new one is complete, its artifacts too;
    in any other store, which may hold other people's work, the experiment's runs that fewtable made are replaced.
    """
    with writer_lock(results):
        _index(results).unlink(missing_ok=True)
        outcome = Outcome()
        file = sqlite_file(tracking.uri)
        if file is None or not file.resolve().is_relative_to(results.resolve()):
            try:
                open_store(results, tracking).clear()
            except StoreError as error:
                outcome.delayed = str(error)
                return outcome
            _log_pending(results, tracking, labels, {}, outcome)
        else:
            for left in file.parent.glob(f".{file.name}.*"):  # of a rebuild that was killed
                left.unlink()
            fresh = file.with_name(f".{file.name}.{os.getpid()}-{time.time_ns()}")
            beside = tracking.model_copy(update={"uri": f"sqlite:///{fresh}"})
            _log_pending(results, beside, labels, {}, outcome)
            if outcome.delayed is not None:
                return outcome
            if fresh.exists():
                fresh.replace(file)
            else:
                file.unlink(missing_ok=True)
            _drop_artifacts(results, {str(entry["run_id"]) for entry in outcome.entries.values()})
        _write_index(results, tracking, outcome)
    return outcome


def _drop_artifacts(results: Path, keep: set[str]) -> None:
    root = results / "mlartifacts"
    for folder in root.iterdir() if root.exists() else ():
        if folder.name not in keep:
            shutil.rmtree(folder)


def status(key: str, outcome: Outcome, tracking: TrackingSpec) -> dict[str, Any]:
    """Return what ``results/tracking/KEY.json`` says."""
    entry = outcome.entries.get(key)
    where = {"store": mask(tracking.uri, tracking.uri), "experiment": tracking.experiment}
    if entry is None:
        return {"status": "delayed", "why": outcome.delayed, **where}
    return {"status": "logged", **where, "run_id": entry["run_id"], "draws": entry["draws"]}


def _index(results: Path) -> Path:
    return results / "tracking" / ".index.json"


def _store_id(results: Path, tracking: TrackingSpec) -> str:
    # a moved folder is another store: the addresses of its artifacts are absolute
    return digest([tracking.uri, tracking.experiment, str(results.resolve())])


def _read_index(results: Path, tracking: TrackingSpec) -> Entries:
    """Return what the store is known to hold; nothing when it is another store, or is gone."""
    file = sqlite_file(tracking.uri)
    if file is not None and not file.exists():
        return {}
    try:
        index = read_json(_index(results))
        return dict(index["cells"]) if index["store"] == _store_id(results, tracking) else {}
    except (DataError, KeyError, TypeError):
        return {}


def _write_index(results: Path, tracking: TrackingSpec, outcome: Outcome) -> None:
    write_json(_index(results), {"store": _store_id(results, tracking), "cells": outcome.entries})


def _log_pending(results: Path, tracking: TrackingSpec, labels: Labels, index: Entries, outcome: Outcome) -> None:
    pending: list[str] = []
    for key, path in cell_files(results).items():
        wanted = {"digest": content_digest(path), "tags": dict(labels.get(key, {}))}
        known = index.get(key)
        if known is not None and wanted.items() <= known.items():
            outcome.known.append(key)
            outcome.entries[key] = known
        else:
            pending.append(key)
    if not pending or outcome.delayed is not None:
        return
    try:
        store = open_store(results, tracking)
        for number, key in enumerate(pending, 1):
            _log_one(results, key, store, labels.get(key, {}), outcome)
            if sys.stderr.isatty():
                print(f"\rtrack: {number} of {len(pending)} cells", end="", file=sys.stderr, flush=True)
    except StoreError as error:
        outcome.delayed = str(error)


def _log_one(results: Path, key: str, store: Store, tags: Mapping[str, str], outcome: Outcome) -> None:
    lost: list[str] = []
    try:
        record = read_record(results, key, tags)
        entry = store.put(record, lambda folder: _artifacts(results, key, folder, lost))
    except (DataError, RefusedError) as error:
        outcome.skipped[key] = str(error)
        print(f"track: {key} is left out: {error}", file=sys.stderr)
        return
    if lost:
        print(f"track: {key} has no pictures: {lost[0]}", file=sys.stderr)
    outcome.entries[key] = {"digest": record.digest, "tags": record.labels, **entry}
    outcome.logged.append(key)


def _artifacts(results: Path, key: str, folder: Path, lost: list[str]) -> None:
    """Write the artifacts; a person may have removed the runs folder of a finished cell, which is no error."""
    try:
        write_artifacts(results, key, folder)
    except DataError as error:
        lost.append(str(error))
