"""A results tree of three cells and its store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fewtable.files import read_json, write_json
from fewtable.specs import TrackingSpec
from fixtures import mlflow_store  # noqa: F401  (sets MLflow's environment)
from fixtures.results_tree import write_results_tree


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_results_tree(tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sqlite store with its tables and nothing in it: to make one takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def tracking(results: Path, empty_store: Path) -> TrackingSpec:
    shutil.copy(empty_store, results / "mlflow.db")
    return TrackingSpec(uri=f"sqlite:///{results}/mlflow.db")


@pytest.fixture
def edit(results: Path) -> Callable[[str, float], None]:
    """Give a cell another F1, as a rerun would."""

    def change(key: str, value: float) -> None:
        path = results / "cells" / f"{key}.json"
        cell = read_json(path)
        cell["metrics"]["strict.f1"]["mean"] = value
        write_json(path, cell)

    return change
