"""The journal: what a crash, a full disk or a second process leave of it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fewtable.errors import DataError
from fewtable.teachers.journal import Answer, Journal

ONE = Answer("k1", '[("a", "b")]', "stop", (10, 5))
TWO = Answer("k2", "…", "length", (11, 512))
NO = Answer("k3", refused="status 400: too long")


def filled(path: Path) -> Path:
    with Journal(path) as journal:
        for answer in (ONE, TWO, NO):
            journal.add(answer)
        journal.add_lost(7, 3)
    return path


def test_answers_come_back(tmp_path: Path) -> None:
    with Journal(filled(tmp_path / "deep" / "journal.jsonl")) as journal:
        assert list(journal.answers.values()) == [ONE, TWO, NO]
        assert journal.lost == [7, 3]


@pytest.mark.parametrize("cut", [1, 2, 10])
def test_a_cut_last_line_is_taken_off(tmp_path: Path, cut: int) -> None:
    path = filled(tmp_path / "j")
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(path) as journal:
        assert list(journal.answers) == ["k1", "k2", "k3"]
        assert journal.lost == [0, 0]
        journal.add(Answer("k4"))
    lines = path.read_text().splitlines()
    assert [json.loads(line).get("key") for line in lines] == ["k1", "k2", "k3", "k4"]


def test_a_broken_line_in_the_middle_is_passed_over(tmp_path: Path) -> None:
    path = filled(tmp_path / "j")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\0" * 40 + b"\n" + b'{"key": "k9"}\n[]\n' + lines[2])
    with Journal(path) as journal:
        assert list(journal.answers) == ["k1", "k3"]


def test_what_was_refused_is_asked_again_on_request(tmp_path: Path) -> None:
    with Journal(filled(tmp_path / "j")) as journal:
        assert journal.billed == (10 + 11 + 7, 5 + 512 + 3)
        journal.retry_refused()
        assert list(journal.answers) == ["k1", "k2"]
        journal.add(Answer("k4", refused="later"))
        journal.add(Answer("k5", refused="status 500", again=True))
        assert journal.answers["k5"].refused
    with Journal(tmp_path / "j") as journal:
        assert list(journal.answers) == ["k1", "k2", "k4"]


def test_a_second_process_is_turned_away(tmp_path: Path) -> None:
    with Journal(tmp_path / "j"), pytest.raises(DataError, match="another annotation"):
        Journal(tmp_path / "j")
    Journal(tmp_path / "j").__exit__(None, None, None)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path / "j")
    before = path.read_bytes()
    real = os.write

    def half(file: int, content: bytes) -> int:
        if len(content) > 8:
            return real(file, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal(path) as journal:
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(DataError, match="the disk is full; 3 answers are kept"):
            journal.add(Answer("k4"))
        monkeypatch.undo()
        assert "k4" not in journal.answers
    assert path.read_bytes() == before


def test_the_systems_own_limit_is_a_full_disk_too(tmp_path: Path) -> None:
    """Under a limit of file size the kernel itself writes half a line, then refuses."""
    program = """
import resource, sys
from pathlib import Path
from fewtable.errors import DataError
from fewtable.teachers.journal import Answer, Journal
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with Journal(Path(sys.argv[1])) as journal:
    try:
        for i in range(100):
            journal.add(Answer(f"k{i}", "x" * 50))
    except DataError as error:
        print(len(journal.answers), error)
"""
    path = tmp_path / "j"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    kept = int(done.stdout.split()[0])
    assert "the disk is full" in done.stdout
    assert path.read_bytes().endswith(b"\n")
    with Journal(path) as journal:
        assert list(journal.answers) == [f"k{i}" for i in range(kept)]
        journal.add(Answer("more"))
