"""What starts MLflow's own page on the store."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fewtable.errors import ConfigError
from fewtable.specs import TrackingSpec
from fewtable.tracking.store import StoreError, mask, quiet_environment
from fewtable.tracking.writer import open_store, writer_lock


def ui_command(results: Path, tracking: TrackingSpec) -> tuple[list[str], dict[str, str], str]:
    """Return (command, environment, address of the runs) of MLflow's page on 127.0.0.1, port $PORT or 5000.

    The store is made first when it is not there.

    Raises:
        ConfigError: the store is a server, which has a page of its own, or cannot be opened.
    """
    if tracking.uri.startswith("http"):
        raise ConfigError(
            "the tracking store is a server, which has its own page",
            where="config/config.yaml:tracking.uri",
            fix=f"open {mask(tracking.uri, tracking.uri)} in a browser",
        )
    try:
        with writer_lock(results):
            experiment = open_store(results, tracking).experiment
    except StoreError as error:
        raise ConfigError(
            f"the tracking store cannot be opened: {error}", where="config/config.yaml:tracking.uri"
        ) from None
    port = os.environ.get("PORT", "5000")
    command = [sys.executable, "-m", "mlflow", "server"]
    command += ["--artifacts-destination", str((results / "mlartifacts").resolve())]
    command += ["--host", "127.0.0.1", "--port", port, "--workers", "1"]
    # its job runner takes eight processes and 2 GB, and nothing here uses it
    environment = {**os.environ, **quiet_environment(tracking.uri), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # not as an argument: a database's URI may hold a password, and arguments can be seen by all
    environment["MLFLOW_BACKEND_STORE_URI"] = tracking.uri
    # its front page shows what belongs to chat models
    return command, environment, f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs"
