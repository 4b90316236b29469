"""One cluster, and on it one run in which everything happens; the tests look at what it left."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from campaign import TARGETS, Campaign, ClusterProject, make_project, run_campaign
from cluster import Cluster, obstacle

from fixtures.project import Project


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := obstacle():
        pytest.skip(reason)
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # takes the cluster down on its way out
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
        signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("scratch") / "project").root


@pytest.fixture(scope="session")
def campaign(cluster: Cluster, scratch: Path, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """The demo and a table of tiny models, made on the cluster."""
    root = tmp_path_factory.mktemp("slurm") / "project"
    shutil.copytree(scratch, root)
    return run_campaign(ClusterProject(root, cluster))


@pytest.fixture(scope="session")
def local(scratch: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same tables, made without a cluster."""
    root = tmp_path_factory.mktemp("local") / "project"
    shutil.copytree(scratch, root)
    project = Project(root)
    project.run(*TARGETS)
    return project
