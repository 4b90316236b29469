"""A scratch project that runs on the cluster, and what SLURM wrote down about its jobs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from cluster import Cluster

from fixtures.project import Project, make_quick

# It asks for a GPU, and for less memory than training takes.
BACKBONE = {"extends": "tiny-bert", "title": "tiny-gpu", "gpu": 1, "train_mem_mb": 300}
TABLE = """title: Cluster
rows:
  - {id: cancelled, title: cancelled while it trains, method: long, backbone: tiny-bert}
  - {id: hungry, title: asks for a GPU and too little memory, method: nnshot, backbone: tiny-gpu}
columns:
  - {id: w, title: 5-shot, dataset: wnut16-demo, setting: 5-shot-300}
"""
TARGETS = ("results/cluster.csv", "results/demo.csv")
CANCELLED = "wnut16-demo/5-shot-300/long/tiny-bert/1-2"
# What a job sees of its GPUs goes to the job's log.
SPY = 'import os\n\nprint("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES"))\nrun(main)\n'


def make_project(root: Path) -> Project:
    """Return a scratch copy with the quick demo, and the table above with its method and backbone.

    The demo's language model becomes a tiny one: SmolLM2 takes minutes and asks SLURM for nothing else.
    """
    project = make_quick(root)
    config = project.root / "config"
    demo = config / "tables" / "demo.yaml"
    demo.write_text(demo.read_text().replace("backbone: smollm2-135m", "backbone: tiny-llama"))
    (config / "backbones" / "tiny-gpu.yaml").write_text(yaml.safe_dump(BACKBONE))
    # It outlives the seconds that SLURM leaves a cancelled job.
    method = {"extends": "lc-bert", "title": "long", "train": {"epochs": 20}}
    (config / "methods" / "long.yaml").write_text(yaml.safe_dump(method))
    (config / "tables" / "cluster.yaml").write_text(TABLE)
    script = root / "workflow" / "scripts" / "train.py"
    script.write_text(script.read_text().replace("run(main)\n", SPY))
    return project


@dataclass(frozen=True)
class ClusterProject(Project):
    """A project whose snakemake is called as a user of a cluster calls it."""

    cluster: Cluster

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), self.cluster.environment["PATH"]])
        return {**super().environment, **self.cluster.environment, "PATH": path}

    def command(self, *arguments: str) -> list[str]:
        # Polled more often than a real cluster should be.
        polling = ("--slurm-init-seconds-before-status-checks", "3")
        return [str(Path(sys.executable).with_name("snakemake")), "--profile", "slurm", *polling, *arguments]


@dataclass(frozen=True)
class Job:
    """A SLURM job that ended, as SLURM wrote it down."""

    id: str
    state: str
    partition: str
    minutes: int
    mem_mb: int
    log: Path


@dataclass(frozen=True)
class Campaign:
    """A run on the cluster that ended."""

    project: Project
    jobs: list[Job]
    cancelled_at: float

    def of(self, rule: str, *parts: str) -> list[Job]:
        """Return the jobs of a rule whose wildcards hold ``parts``, in the order in which they were submitted."""
        return [
            job for job in self.jobs if f"rule_{rule}" in job.log.parts and all(part in str(job.log) for part in parts)
        ]


def run_campaign(project: ClusterProject) -> Campaign:
    """Make the tables on the cluster; one job is cancelled on the way."""
    process = project.start(*TARGETS)
    try:
        cancelled_at = cancel_in_training(project, process)
        code = process.wait(timeout=800)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert code == 0, (project.root / "started.log").read_text()
    return Campaign(project, ended_jobs(project), cancelled_at)


def cancel_in_training(project: ClusterProject, process: subprocess.Popen[bytes]) -> float:
    """Cancel the job that trains CANCELLED in its second draw, and return when."""
    log = project.root / "results" / "checkpoints" / CANCELLED / "2" / "train.jsonl"
    while not log.exists() or log.read_bytes().count(b"\n") < 5:
        assert process.poll() is None, (project.root / "started.log").read_text()
        time.sleep(0.05)
    jobs = [line.split() for line in project.cluster.call("squeue", "-h", "-t", "R", "-o", "%i %k").splitlines()]
    (job,) = [job for job, comment in jobs if comment.startswith("rule_train") and "_long_" in comment]
    project.cluster.call("scancel", job)
    return time.time()


def ended_jobs(project: ClusterProject) -> list[Job]:
    jobs = []
    for line in (project.cluster.root / "log" / "jobs.txt").read_text().splitlines():
        value = dict(re.findall(r"(\w+)=(\S*)", line))
        (memory,) = re.findall(r"mem=(\d+)M", value["Tres"])
        (log,) = (project.root / "logs" / "slurm").rglob(f"{value['JobId']}.log")
        minutes = int(value["TimeLimit"])
        log = log.relative_to(project.root)
        jobs.append(Job(value["JobId"], value["JobState"], value["Partition"], minutes, int(memory), log))
    return sorted(jobs, key=lambda job: int(job.id))
