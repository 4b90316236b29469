"""`snakemake --profile slurm` on a real SLURM: partitions, retries, logs, and the same tables as without it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from campaign import CANCELLED, Campaign
from cluster import CGROUPS, Cluster, is_running, obstacle, wait_until

from fixtures.project import Project

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]

CLUSTER_JOBS = ("sample", "train", "decode")


def results(project: Project) -> dict[str, bytes]:
    """Return the tables, and the outputs and scores of all runs."""
    folder = project.root / "results"
    paths = [*folder.glob("cluster.*"), *folder.glob("demo.*"), *folder.glob("runs/**/*.json*")]
    files = [path for path in paths if path.suffix != ".html"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_tables_are_those_of_a_local_run(campaign: Campaign, local: Project) -> None:
    there, here = results(campaign.project), results(local)
    assert {"cluster.csv", "demo.csv"} <= there.keys() == here.keys()
    assert [name for name in there if there[name] != here[name]] == []


def test_only_work_for_compute_nodes_is_submitted(campaign: Campaign) -> None:
    rules = {job.log.parts[2] for job in campaign.jobs}
    assert rules == {f"rule_{rule}" for rule in CLUSTER_JOBS}
    assert len(campaign.of("sample")) == 1


def test_the_gpu_of_the_backbone_chooses_the_partition(campaign: Campaign) -> None:
    asking = campaign.of("train", "tiny-gpu") + campaign.of("decode", "tiny-gpu")
    assert {job.partition for job in asking} == {"gpu"}
    assert {job.partition for job in campaign.jobs if job not in asking} == {"cpu"}
    logs = campaign.project.root / "logs" / "train"
    seen = {path.parts[-2]: path.read_text() for path in logs.rglob("1-2.log")}
    assert "CUDA_VISIBLE_DEVICES 0\n" in seen.pop("tiny-gpu")
    assert all("CUDA_VISIBLE_DEVICES None\n" in text for text in seen.values())


def test_too_little_memory_is_doubled(campaign: Campaign) -> None:
    first, *others = campaign.of("train", "tiny-gpu")
    assert first.state in ("OUT_OF_MEMORY", "FAILED")
    assert others[-1].state == "COMPLETED"
    requests = [(job.mem_mb, job.minutes) for job in (first, *others)]
    assert requests == [(300 * 2**n, 10 * 2**n) for n in range(len(requests))]


def test_a_cancelled_job_comes_back_and_goes_on(campaign: Campaign) -> None:
    first, second = campaign.of("train", "long")
    assert first.state != "COMPLETED"
    assert (second.state, second.mem_mb, second.minutes) == ("COMPLETED", 2 * first.mem_mb, 2 * first.minutes)
    model = campaign.project.root / "results" / "runs" / CANCELLED / "model"
    assert (model / "1" / "train.jsonl").stat().st_mtime < campaign.cancelled_at, "draw 1 was trained again"


def test_logs_are_where_a_person_looks(campaign: Campaign) -> None:
    root = campaign.project.root
    assert "trained long on 2 draws" in (root / "logs" / "train" / f"{CANCELLED}.log").read_text()
    first, second = campaign.of("train", "long")
    assert first.log == Path("logs/slurm/rule_train", CANCELLED.replace("/", "_"), f"{first.id}.log")
    assert "CANCELLED" in (root / first.log).read_text()
    assert "Finished jobid" in (root / second.log).read_text()


def test_a_second_call_submits_nothing(campaign: Campaign) -> None:
    assert campaign.project.planned("results/cluster.csv", "results/demo.csv") == set()


def test_down_leaves_nothing_behind(tmp_path_factory: pytest.TempPathFactory) -> None:
    if reason := obstacle():
        pytest.skip(reason)
    tmp_path = tmp_path_factory.mktemp("down")  # a short path: SLURM's sockets lie below it
    cluster = Cluster(tmp_path)
    try:
        assert "gpu:fake:2" in call("up", tmp_path)
        nodes, daemons = cluster.nodes(), list(cluster.processes())
        assert len(daemons) == 6
        call("up", tmp_path)
        assert list(cluster.processes()) == daemons, "the second call started another cluster"
        seconds = nodes[0].split("-")[1]  # the cluster's port: no other process sleeps that long
        cluster.call("sbatch", "--output=/dev/null", "--wrap", f"setsid sleep {seconds} & sleep {seconds}")
        assert wait_until(lambda: sleepers(seconds) == 2, 20)
    finally:
        call("down", tmp_path)
    assert sleepers(seconds) == 0
    assert not any(is_running(pid, name) for name, pid in daemons)
    assert [path for node in nodes for path in CGROUPS.glob(f"*/slurm_{node}")] == []
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert call("down", tmp_path) == call("status", tmp_path) == f"down: {tmp_path}\n"


def test_a_root_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="make it shorter"):
        Cluster(tmp_path / ("long" * 20)).up()


def call(action: str, root: Path) -> str:
    command = [sys.executable, str(Path(__file__).with_name("cluster.py")), action, str(root)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def sleepers(seconds: str) -> int:
    """Return how many processes `sleep SECONDS` there are."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            count += path.read_bytes().split(b"\0")[:2] == [b"sleep", seconds.encode()]
    return count
