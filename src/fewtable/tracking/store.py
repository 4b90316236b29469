"""The MLflow side of tracking: one experiment of one store. MLflow is imported when a store is opened."""

from __future__ import annotations

import getpass
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from fewtable.tracking.record import LABELS, Point, Record, Told

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # the defaults wait for minutes on a server that is down; tracking can be made up later
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


class StoreError(Exception):
    """The store cannot be used now; the message holds no secret."""


class RefusedError(StoreError):
    """The store works but does not take this cell."""


def mask(text: str, uri: str) -> str:
    """Return ``text`` without the password of ``uri`` and the tracking secrets of the environment."""
    secrets = {urlsplit(uri).password, os.environ.get("MLFLOW_TRACKING_PASSWORD")}
    secrets |= {os.environ.get("MLFLOW_TRACKING_TOKEN")}
    for secret in sorted((s for s in secrets if s), key=len, reverse=True):
        for form in {secret, quote(secret, safe="")}:
            text = text.replace(form, "***")
    return re.sub(r"(?<=://)([^/\s:@]+):[^/\s@]+@", r"\1:***@", text)


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a ``sqlite:///`` URI, None for all others."""
    prefix = "sqlite:///"
    return Path(uri.removeprefix(prefix).partition("?")[0]) if uri.startswith(prefix) else None


def quiet_environment(uri: str) -> dict[str, str]:
    """Return the variables that keep MLflow silent and at home; what the user has set stays."""
    values = dict(_QUIET)
    if sqlite_file(uri) is not None:
        # no connection outlives its use, so that a rebuilt file is seen at once, by a running page as well
        values["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"
    return {name: os.environ.get(name, value) for name, value in values.items()}


@contextmanager
def _errors_of(uri: str) -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise StoreError("MLflow is not installed; `pip install 'fewtable[tracking]'` brings it") from None
    except Exception as error:
        # whatever a store raises (MLflow, SQLAlchemy, sockets, a full disk), it may not fail a job
        text = mask(f"{type(error).__name__}: {error}", uri).splitlines()[0][:500]
        refused = getattr(error, "error_code", None) == "INVALID_PARAMETER_VALUE"
        raise (RefusedError if refused else StoreError)(text) from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return str(os.getuid())


class Store:
    """One experiment of an MLflow store, made when it is not there.

    Args:
        uri: ``sqlite:///FILE``, or a server's ``http(s)://``.
        experiment: name of the experiment.
        artifacts: folder for the artifacts of an sqlite store; a server decides for itself.

    Raises:
        StoreError: here and in every method, when the store cannot be reached or refuses.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path) -> None:
        self.uri = uri
        self._user = _user()
        file = sqlite_file(uri)
        with _errors_of(uri):
            os.environ.update(quiet_environment(uri))
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
            from mlflow import MlflowClient
            from mlflow.entities import ViewType

            for noisy in ("alembic", "mlflow.store.db", "mlflow.store.db.utils"):
                logging.getLogger(noisy).setLevel(logging.WARNING)
            self._client: Any = MlflowClient(tracking_uri=uri)
            self._active = ViewType.ACTIVE_ONLY
            self.experiment = self._open(experiment, None if file is None else artifacts.resolve().as_uri())

    def _open(self, name: str, artifacts: str | None) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return str(self._client.create_experiment(name, artifact_location=artifacts))
        if found.lifecycle_stage != "active":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    # --- cells ------------------------------------------------------------------------------------

    def put(self, record: Record, artifacts: Callable[[Path], None]) -> dict[str, Any]:
        """Make the store hold exactly ``record`` for its cell; return {"run_id", "draws": {draw: run id}}.

        A complete run of the same content is kept as it is; runs of other content, or left unfinished by a killed
        job, are deleted. The parent is finished last, so a finished parent means that all is there.

        Args:
            record: the cell.
            artifacts: writes the parent's artifacts into the folder that it is given.
        """
        with _errors_of(self.uri):
            old = self._runs(record.key)
            entry = self._complete(old, record)
        if entry is None:
            with tempfile.TemporaryDirectory() as folder:
                artifacts(Path(folder))
                with _errors_of(self.uri):
                    entry = self._create(record, folder)
        elif changed := self._changed_labels(entry["run_id"], old, record):
            with _errors_of(self.uri):
                self._log(entry["run_id"], Told(changed, {}, []), 0, tags=True)
        with _errors_of(self.uri):
            wanted = {entry["run_id"], *entry["draws"].values()}
            for run in old:
                if run.info.run_id not in wanted:
                    self._client.delete_run(run.info.run_id)
        return entry

    def clear(self) -> None:
        """Delete every run of the experiment that fewtable has made for this user."""
        with _errors_of(self.uri):
            for run in self._search("tags.`fewtable.cell` LIKE '%'"):
                self._client.delete_run(run.info.run_id)

    def _runs(self, key: str) -> list[Any]:
        return self._search(f"tags.`fewtable.cell` = '{key}'")

    def _search(self, query: str) -> list[Any]:
        # several people may share a server and an experiment: each one's cells are their own
        query += f" AND tags.`mlflow.user` = '{self._user}'"
        found: list[Any] = []
        token: str | None = None
        while True:
            page = self._client.search_runs([self.experiment], query, self._active, 1000, page_token=token)
            found.extend(page)
            token = page.token
            if not token:
                return found

    @staticmethod
    def _complete(runs: list[Any], record: Record) -> dict[str, Any] | None:
        same = [
            run
            for run in runs
            if run.data.tags.get("fewtable.digest") == record.digest and run.info.status == "FINISHED"
        ]
        parents = [run for run in same if "fewtable.draw" not in run.data.tags]
        for parent in sorted(parents, key=lambda run: str(run.info.run_id)):
            identity = str(parent.info.run_id)
            draws = {
                run.data.tags["fewtable.draw"]: str(run.info.run_id)
                for run in same
                if run.data.tags.get("mlflow.parentRunId") == identity
            }
            if set(draws) == {str(draw) for draw in record.children}:
                return {"run_id": identity, "draws": draws}
        return None

    @staticmethod
    def _changed_labels(run_id: str, runs: list[Any], record: Record) -> dict[str, str]:
        tags = next(run.data.tags for run in runs if run.info.run_id == run_id)
        wanted = {label: record.labels.get(label, "") for label in LABELS}
        return {label: value for label, value in wanted.items() if tags.get(label, "") != value}

    def _create(self, record: Record, artifacts: str) -> dict[str, Any]:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        parent = self._start(record.parent, record.time)
        self._log(parent, record.parent, record.time)
        dataset = record.key.partition("/")[0]
        inputs = [
            DatasetInput(
                Dataset(f"{dataset}/{split}", sha[:32], "local", f"results/data/{dataset}/{split}.jsonl"),
                [InputTag("mlflow.data.context", split)],
            )
            for split, sha in sorted(record.data.items())
        ]
        self._client.log_inputs(parent, inputs)
        draws = {}
        for draw, told in record.children.items():
            child = self._start(told, record.time, parent)
            self._log(child, told, record.time)
            self._client.set_terminated(child, "FINISHED", record.time)
            draws[str(draw)] = child
        self._client.log_artifacts(parent, artifacts)
        self._client.set_terminated(parent, "FINISHED", record.time)
        return {"run_id": parent, "draws": draws}

    def _start(self, told: Told, time: int, parent: str | None = None) -> str:
        tags = {**told.tags, "mlflow.user": self._user}
        if parent is not None:
            tags["mlflow.parentRunId"] = parent
        return str(self._client.create_run(self.experiment, time, tags).info.run_id)

    def _log(self, run_id: str, told: Told, time: int, tags: bool = False) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            run_id,
            metrics=[Metric(p.name, p.value, time, p.step) for p in told.metrics],
            params=[Param(key, value) for key, value in told.params.items()],
            tags=[RunTag(key, value) for key, value in told.tags.items()] if tags else [],
        )

    # --- running jobs -----------------------------------------------------------------------------

    def live(self, key: str, draw: str, time: int) -> tuple[str, int]:
        """Return the run that shows a draw while it trains, and the last step it holds (-1: none).

        It goes when the finished cell is put.
        """
        with _errors_of(self.uri):
            for run in self._runs(key):
                tags = run.data.tags
                if tags.get("fewtable.live") == draw and run.info.status == "RUNNING":
                    last = run.data.tags.get("fewtable.step", "-1")
                    return str(run.info.run_id), int(last)
            dataset, setting, method, backbone = key.split("/")
            title = f"{method} · {backbone} · {dataset} {setting} · draw {draw} (running)"
            tags = {"mlflow.runName": title, "fewtable.cell": key, "fewtable.live": draw}
            tags |= {"dataset": dataset, "setting": setting, "method": method, "backbone": backbone}
            return self._start(Told(tags, {}, []), time), -1

    def grow(self, run_id: str, points: list[Point], time: int) -> None:
        """Append points to a live run."""
        with _errors_of(self.uri):
            step = max(point.step for point in points)
            self._log(run_id, Told({"fewtable.step": str(step)}, {}, points), time, tags=True)

    def end(self, run_id: str, time: int) -> None:
        """Finish a live run whose job has ended."""
        with _errors_of(self.uri):
            self._client.set_terminated(run_id, "FINISHED", time)
