"""The workflow's scripts fetch.py and data.py, run by hand."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from fewtable.corpus import read_sentences

TEXT = "a\tB-X\n\nb\tO\n"
YAML = f"""
title: T
domain: news
licence: none
reader: columns
files: {{a.tsv: {{sha256: {hashlib.sha256(TEXT.encode()).hexdigest()}, mirror: d/a.tsv}}}}
splits: {{train: {{files: [a.tsv], sentences: 2, entities: 1}}}}
types: {{X: {{words: x, definition: d}}}}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "config" / "datasets").mkdir(parents=True)
    (tmp_path / "config" / "datasets" / "d.yaml").write_text(YAML)
    (tmp_path / "config" / "config.yaml").write_text("mirror: mirror\n")
    (tmp_path / "mirror" / "d").mkdir(parents=True)
    (tmp_path / "mirror" / "d" / "a.tsv").write_text(TEXT)
    return tmp_path


def script(root: Path, home: Path, name: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "workflow" / "scripts" / name), *args]
    return subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)


def test_fetch_then_data(root: Path, home: Path) -> None:
    where = "results/raw/d/a.tsv"
    done = script(root, home, "fetch.py", "--dataset", "d", "--file", "a.tsv", "--output", where)
    assert done.returncode == 0, done.stderr
    assert "fetched d/a.tsv, 11 bytes, from mirror mirror/d/a.tsv in " in done.stderr + done.stdout
    args = ("--dataset", "d", "--split", "train", "--raw", "results/raw/d", "--output", "train.jsonl")
    done = script(root, home, "data.py", *args)
    assert done.returncode == 0, done.stderr
    assert "normalised 2 sentences of d train in " in done.stderr + done.stdout
    assert [s.words for s in read_sentences(home / "train.jsonl")] == [("a",), ("b",)]


def test_errors_have_no_traceback_and_exit_1(root: Path, home: Path) -> None:
    (home / "mirror" / "d" / "a.tsv").write_text("wrong")
    args = ("--dataset", "d", "--file", "a.tsv", "--output", "raw/a.tsv")
    done = script(root, home, "fetch.py", *args)
    assert done.returncode == 1 and "wrong checksum" in done.stderr and "Traceback" not in done.stderr
    assert not (home / "raw" / "a.tsv").exists()
    done = script(root, home, "data.py", "--dataset", "d", "--split", "train", "--raw", "raw", "--output", "x")
    assert done.returncode == 1 and "to mend: fetch it: fewtable data fetch d" in done.stderr
