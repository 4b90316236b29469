"""A real llama.cpp server with the embedded model, where one is installed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from teachers_chat import teacher, write_corpus

from fewtable.backbones import package_folder
from fewtable.errors import ConfigError, DataError
from fewtable.registry import Registry
from fewtable.teachers.annotate import annotate
from fewtable.teachers.journal import Journal

TEXT = "Barack Obama visited the Mayo Clinic in Rochester on Monday."


def command(model: Path, port: int) -> list[str] | None:
    """The server's command: llama-server on the path, or llama-cpp-python here or in $LLAMA_CPP_PYTHON."""
    if found := shutil.which("llama-server"):
        return [found, "-m", str(model), "--host", "127.0.0.1", "--port", str(port), "-c", "2048", "-t", "1"]
    python = os.environ.get("LLAMA_CPP_PYTHON")
    if python is None and importlib.util.find_spec("llama_cpp"):
        python = sys.executable
    if python is None:
        return None
    options = ["--model", str(model), "--host", "127.0.0.1", "--port", str(port), "--n_ctx", "2048", "--n_threads", "1"]
    return [python, "-m", "llama_cpp.server", *options]


@pytest.fixture
def server(root: Path, tmp_path: Path) -> Iterator[str]:
    source = Registry(root / "config").backbone("smollm2-135m").gguf
    assert source
    try:
        model = package_folder(source.package) / source.path
    except ConfigError as error:
        pytest.skip(error.what)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = command(model, port)
    if found is None:
        pytest.skip("no llama.cpp server: neither llama-server, nor llama-cpp-python[server], nor $LLAMA_CPP_PYTHON")
    with (tmp_path / "server.log").open("wb") as log:
        running = subprocess.Popen(found, stdout=log, stderr=log)
    try:
        for _ in range(300):
            assert running.poll() is None, (tmp_path / "server.log").read_text()[-2000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        running.terminate()
        running.wait()


@pytest.mark.slow
def test_a_real_llama_cpp_server(server: str, tmp_path: Path) -> None:
    """It answers, counts its tokens, and says the same again at temperature 0."""
    made = []
    for name in ("one", "two"):
        places = write_corpus(tmp_path / name, [TEXT])
        with contextlib.suppress(DataError):  # twelve tokens of so small a model seldom make a list
            annotate(teacher(server, max_tokens=12, in_flight=1), places)
        with Journal(places.journal) as journal:
            (answer,) = journal.answers.values()
        assert answer.refused is None and answer.answer and answer.tokens[0] > 50
        made.append(answer)
    assert made[0] == made[1]
