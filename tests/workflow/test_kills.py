"""kill -9 anywhere: the next call finishes with the same table, byte for byte."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from fixtures.project import Project

pytestmark = pytest.mark.slow

TABLE = """title: Kill
rows:
  - {id: lc-bert, title: LC-BERT, method: lc-bert, backbone: tiny-bert}
columns:
  - {id: w, title: 5-shot, dataset: killed, setting: 5-shot-300}
"""
TARGET = "results/kill.csv"


class Trickle(BaseHTTPRequestHandler):
    """Serves one file with ranges, slowly while ``slow`` is set."""

    content = b""
    slow = threading.Event()
    ranges: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        start = 0
        if given := self.headers.get("Range"):
            self.ranges.append(given)
            start = int(given.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        body = self.content[start:]
        self.send_header("ETag", '"one"')
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for at in range(0, len(body), 65536):
            try:
                self.wfile.write(body[at : at + 65536])
            except OSError:
                return
            if self.slow.is_set():
                time.sleep(0.5)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server(demo: Project) -> Iterator[str]:
    Trickle.content = (demo.root / "results/raw/wnut16-demo/train.conll").read_bytes()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Trickle)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}/train.conll"
    httpd.shutdown()


def make(root: Path, demo: Project, url: str) -> Project:
    project = Project.make(root)
    dataset = yaml.safe_load((demo.root / "config/datasets/wnut16-demo.yaml").read_text())
    file = {"sha256": hashlib.sha256(Trickle.content).hexdigest(), "sources": [{"url": url}]}
    dataset["files"] = {"train.conll": file}
    (root / "config/datasets/killed.yaml").write_text(yaml.safe_dump(dataset, sort_keys=False))
    (root / "config/tables/kill.yaml").write_text(TABLE)
    config = yaml.safe_load((root / "config/config.yaml").read_text())
    config["overrides"] = {"lc-bert": {"train": {"epochs": 20, "min_steps": 0}}}
    (root / "config/config.yaml").write_text(yaml.safe_dump(config))
    return project


@pytest.fixture(scope="module")
def reference(demo: Project, server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run that nobody kills."""
    project = make(tmp_path_factory.mktemp("whole") / "project", demo, server)
    project.run(TARGET)
    return contents(project)


def contents(project: Project) -> dict[str, bytes]:
    results = project.root / "results"
    names = [TARGET, "results/kill.md"]
    names += [str(p.relative_to(project.root)) for p in sorted(results.glob("runs/killed/**/*.json*"))]
    return {name: (project.root / name).read_bytes() for name in names}


def kill_when(project: Project, condition: Callable[[], bool], timeout: float = 180) -> None:
    """Start the table and kill -9 every process of it as soon as ``condition`` holds."""
    process = project.start(TARGET)
    deadline = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, (
            "it ended before it could be killed:\n" + (project.root / "started.log").read_text()
        )
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def running(project: Project, script: str) -> bool:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes().split(b"\0")
                here = (folder / "cwd").readlink() == project.root
            except OSError:
                continue
            if here and command[0].endswith(b"python") and any(a.endswith(script.encode()) for a in command[1:2]):
                return True
    return False


def test_killed_in_a_download(tmp_path: Path, demo: Project, server: str, reference: dict[str, bytes]) -> None:
    project = make(tmp_path / "project", demo, server)
    Trickle.slow.set()
    Trickle.ranges.clear()
    try:
        raw = project.root / "results/raw/killed"
        kill_when(project, lambda: any(p.stat().st_size > 65536 for p in raw.glob("*")) if raw.exists() else False)
        assert not (raw / "train.conll").exists(), "half a file under its final name"
    finally:
        Trickle.slow.clear()
    project.run(TARGET)
    assert Trickle.ranges, "the download began anew instead of going on"
    assert contents(project) == reference


def test_killed_in_training(tmp_path: Path, demo: Project, server: str, reference: dict[str, bytes]) -> None:
    project = make(tmp_path / "project", demo, server)
    log = project.root / "results/checkpoints/killed/5-shot-300/lc-bert/tiny-bert/1-2/2/train.jsonl"
    kill_when(project, lambda: lines(log) > 5)
    assert not list((project.root / "results/runs").rglob("model")), "half a block under its final name"
    first = log.parents[1] / "done" / "1"
    assert first.exists()
    before = (first / "train.jsonl").stat().st_mtime_ns
    project.run(TARGET)
    model = project.root / "results/runs/killed/5-shot-300/lc-bert/tiny-bert/1-2/model"
    assert (model / "1" / "train.jsonl").stat().st_mtime_ns == before, "the finished draw was trained again"
    assert contents(project) == reference


def test_killed_in_scoring(tmp_path: Path, demo: Project, server: str, reference: dict[str, bytes]) -> None:
    project = make(tmp_path / "project", demo, server)
    kill_when(project, lambda: running(project, "score.py"))
    project.run(TARGET)
    assert contents(project) == reference


def test_a_second_snakemake_is_told_to_wait(tmp_path: Path, demo: Project, server: str) -> None:
    project = make(tmp_path / "project", demo, server)
    process = project.start(TARGET)
    try:
        log = project.root / "results/checkpoints"
        deadline = time.monotonic() + 120
        while not log.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        second = project.run(TARGET, check=False)
        assert second.returncode != 0
        assert "another snakemake is running in this folder" in second.stdout + second.stderr
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
