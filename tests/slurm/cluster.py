"""A real SLURM cluster of four virtual nodes on this machine: ``python tests/slurm/cluster.py up|down|status ROOT``.

Two nodes stand in partition ``cpu``, two with fake GPUs in partition ``gpu``. Everything lies under ROOT and listens on
127.0.0.1; nothing on the machine is configured. Needs root and the packages slurmctld, slurmd, slurm-client and munge.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

# A socket's path may be 107 bytes long; the longest here is that of a step of a job.
LONGEST_ROOT = 107 - len("/spool/gpu2-30000/gpu2-30000_99999.4294967295")
DAEMONS = ("munged", "slurmctld", "slurmd")
CGROUPS = Path("/sys/fs/cgroup")
NODES = ("cpu1", "cpu2", "gpu1", "gpu2")

SLURM_CONF = """\
ClusterName=fewtable
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/run/munge.socket
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={port}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
SlurmdParameters=config_overrides
MpiDefault=none
SwitchType=switch/none
{limits}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,bf_interval=2,batch_sched_delay=0
ReturnToService=2
SlurmdTimeout=60
KillWait=3
MinJobAge=600
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={root}/log/jobs.txt
NodeName=DEFAULT CPUs=2 CoresPerSocket=2 RealMemory=16000 State=UNKNOWN
{nodes}
PartitionName=cpu Nodes={cpu_nodes} Default=YES MaxTime=1-0 DefaultTime=10 DefMemPerCPU=1000 State=UP
PartitionName=gpu Nodes={gpu_nodes} MaxTime=1-0 DefaultTime=10 DefMemPerCPU=1000 State=UP
"""
# Both kill a job that takes more memory than it asked for: the kernel at once, or SLURM's polling after seconds.
BY_CGROUP = """\
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/linux"""
BY_POLLING = """\
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill"""
CGROUP_CONF = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=no
ConstrainRAMSpace=yes
"""


def obstacle() -> str | None:
    """Return why no cluster can be brought up here, if so."""
    missing = [name for name in (*DAEMONS, "sbatch", "srun") if not find(name)]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: slurmctld slurmd slurm-client munge)"
    return None if os.geteuid() == 0 else "bringing SLURM's daemons up needs root"


def find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def cgroup_v1() -> bool:
    """Return whether the memory of jobs can be limited by cgroups of version 1, which this SLURM knows."""
    return all(os.access(CGROUPS / name / "tasks", os.W_OK) for name in ("memory", "freezer", "cpuset"))


def free_ports(count: int) -> list[int]:
    """Return the first block of ports that are all free, below those the system hands out by itself."""
    for start in random.sample(range(20000, 32000, count), 100):
        ports = list(range(start, start + count))
        if all(port_is_free(port) for port in ports):
            return ports
    raise RuntimeError("no free ports between 20000 and 32000")


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@dataclass(frozen=True)
class Cluster:
    """The cluster under ``root``, up or not."""

    root: Path

    @property
    def conf(self) -> Path:
        return self.root / "etc" / "slurm.conf"

    @cached_property
    def environment(self) -> dict[str, str]:
        """What a process needs to use the cluster."""
        return {"SLURM_CONF": str(self.conf), "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}"}

    def call(self, *command: str, check: bool = True) -> str:
        """Run a SLURM command and return what it printed."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def up(self) -> None:
        """Start what does not run; a half-dead cluster is taken down first."""
        if len(str(self.root)) > LONGEST_ROOT:
            raise RuntimeError(f"{self.root}: too long for the sockets below it; make it shorter than {LONGEST_ROOT}")
        if self.idle_nodes() == len(NODES):
            return
        self.down()
        self.write_config()
        run = self.root / "run"
        subprocess.run(
            [
                find("munged") or "munged",
                f"--key-file={self.root}/etc/munge.key",
                f"--socket={run}/munge.socket",
                f"--pid-file={run}/munged.pid",
                f"--seed-file={self.root}/state/munge.seed",
                f"--log-file={self.root}/log/munged.log",
                "--num-threads=2",
                "--force",  # it wants a socket that everyone can reach; here root alone does, and ROOT may be private
            ],
            check=True,
        )
        self.call(find("slurmctld") or "slurmctld", "-c")
        for node in self.nodes():
            self.call(find("slurmd") or "slurmd", "-N", node)
        deadline = time.monotonic() + 60
        while self.idle_nodes() < len(NODES):
            if time.monotonic() > deadline:
                self.down()
                raise RuntimeError(f"the nodes did not come up: see {self.root}/log")
            time.sleep(0.2)

    def write_config(self) -> None:
        for folder in ("etc", "run", "log", "state", "dev", "bin"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        ports = free_ports(1 + len(NODES))
        # The names carry the port, so that the cgroup folders of two clusters on one machine differ.
        names = [f"{name}-{ports[0]}" for name in NODES]
        host = socket.gethostname().split(".")[0]
        lines, gres = [], ["AutoDetect=off"]
        for name, port in zip(names, ports[1:], strict=True):
            (self.root / "spool" / name).mkdir(parents=True)
            extra = ""
            if name.startswith("gpu"):
                extra = " Gres=gpu:fake:2"
                gres.append(f"NodeName={name} Name=gpu Type=fake File={self.root}/dev/{name}-[0-1]")
                for index in range(2):  # SLURM wants device nodes: these are /dev/null's
                    os.mknod(self.root / "dev" / f"{name}-{index}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            lines.append(f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}{extra}")
        text = SLURM_CONF.format(
            host=host,
            root=self.root,
            port=ports[0],
            limits=BY_CGROUP if cgroup_v1() else BY_POLLING,
            nodes="\n".join(lines),
            cpu_nodes=",".join(names[:2]),
            gpu_nodes=",".join(names[2:]),
        )
        self.conf.write_text(text)
        (self.root / "etc" / "gres.conf").write_text("\n".join(gres) + "\n")
        (self.root / "etc" / "cgroup.conf").write_text(CGROUP_CONF)
        key = self.root / "etc" / "munge.key"
        key.touch(mode=0o400)
        key.write_bytes(os.urandom(1024))
        # The executor's job step drops SLURM_CONF before it calls srun.
        shim = self.root / "bin" / "srun"
        shim.write_text(f'#!/bin/sh\nSLURM_CONF={self.conf} exec {find("srun")} "$@"\n')
        shim.chmod(0o755)
        (self.root / "env.sh").write_text(f"export SLURM_CONF={self.conf}\nexport PATH={self.root}/bin:$PATH\n")

    def nodes(self) -> list[str]:
        if not self.conf.exists():
            return []
        lines = self.conf.read_text().splitlines()
        return [line.split()[0].removeprefix("NodeName=") for line in lines if "NodeHostname" in line]

    def idle_nodes(self) -> int:
        """Return the number of nodes that take jobs."""
        if not self.conf.exists() or not dict(self.processes()):
            return 0
        out = self.call("sinfo", "-h", "-N", "-t", "idle,alloc,mix", "-o", "%N", check=False)
        return len(set(out.split()))

    def processes(self) -> Iterator[tuple[str, int]]:
        """Yield the daemons of this cluster that run, in the order in which to stop them."""
        run = self.root / "run"
        for path in [*sorted(run.glob("slurmd.*.pid")), run / "slurmctld.pid", run / "munged.pid"]:
            if path.exists() and path.read_text().strip().isdigit():
                pid = int(path.read_text())
                name = path.name.split(".")[0]
                if is_running(pid, name):
                    yield name, pid

    def down(self) -> None:
        """Cancel all jobs and stop all daemons; only ``root/log`` stays."""
        running = dict(self.processes())
        if "slurmctld" in running:
            self.call("scancel", "--signal=KILL", "--full", "--user=root", check=False)
            self.call("scancel", "--user=root", check=False)
            wait_until(lambda: not self.call("squeue", "-h", check=False).strip(), 20)
        for name, pid in list(self.processes()):
            stop(name, pid)
        for node in self.nodes():
            remove_cgroups(node)
        for folder in ("etc", "run", "state", "spool", "dev", "bin"):
            shutil.rmtree(self.root / folder, ignore_errors=True)
        (self.root / "env.sh").unlink(missing_ok=True)

    def status(self) -> str:
        if self.idle_nodes() == 0:
            return f"down: {self.root}\n"
        return (
            f"{self.call('sinfo', '-N', '-o', '%N %P %T %c %m %G')}{self.call('squeue')}"
            f"to use it in this shell: . {self.root}/env.sh\n"
        )


def is_running(pid: int, name: str) -> bool:
    """Return whether ``pid`` is a live process of that program: ids are used again."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return f"({name})" in fields and ") Z " not in fields


def stop(name: str, pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    if not wait_until(lambda: not is_running(pid, name), 15):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_running(pid, name), 5)


def remove_cgroups(node: str) -> None:
    """Remove the node's folders in all controllers, and kill what is left in them."""
    for top in CGROUPS.glob(f"*/slurm_{node}"):
        for tasks in top.rglob("cgroup.procs"):
            for pid in tasks.read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        folders = sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True)
        for folder in [*folders, top]:
            wait_until(partial(removed, folder), 5)


def removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return not folder.exists()
    return True


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["up", "down", "status"])
    parser.add_argument("root", type=Path, help="folder of the cluster's configuration, state and logs")
    args = parser.parse_args(arguments)
    if args.action == "up" and (reason := obstacle()):
        sys.exit(f"error: {reason}")
    cluster = Cluster(args.root.resolve())
    if args.action != "status":
        getattr(cluster, args.action)()
    return cluster.status()


if __name__ == "__main__":
    print(main(), end="")
