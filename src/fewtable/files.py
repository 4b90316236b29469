"""Atomic files, JSON lines, stable digests and seeds: what every stage writes and keys with."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from fewtable.errors import DataError


@contextmanager
def atomic_write(path: Path) -> Iterator[TextIO]:
    """Open a temporary file beside ``path`` and rename it into place on success.

    A reader never sees a half-written file; on any error the old file stays and the temporary one goes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)  # mkstemp gives 0600, which other users of a cluster cannot read
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold ``path`` as a lock, waiting for whoever has it; the system frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def dumps(value: Any) -> str:
    """Return canonical JSON: sorted keys, no spaces, non-ASCII kept."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` atomically."""
    with atomic_write(path) as stream:
        stream.write(text)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` atomically."""
    with atomic_write(path) as stream:
        stream.buffer.write(content)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` atomically as indented JSON, keys in the order given."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """Write one JSON value a line, atomically; return the number of lines."""
    count = 0
    with atomic_write(path) as stream:
        for count, row in enumerate(rows, 1):  # noqa: B007
            stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    return count


def read_json(path: Path) -> Any:
    """Read a JSON file; raise DataError with file:line when it is missing or malformed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("file not found", where=str(path)) from None
    except json.JSONDecodeError as error:
        raise DataError(f"not JSON: {error.msg}", where=f"{path}:{error.lineno}") from None


def read_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (line number, value) of a JSON-lines file; raise DataError with file:line."""
    try:
        stream = path.open("rb")  # json decodes line by line, so that a broken one has its number
    except FileNotFoundError:
        raise DataError("file not found", where=str(path)) from None
    with stream:
        for number, line in enumerate(stream, 1):
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"not JSON: {error.msg}", where=f"{path}:{number}") from None
            except UnicodeDecodeError:
                raise DataError("not UTF-8", where=f"{path}:{number}") from None


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Return the hex SHA-256 of a JSON value's canonical form."""
    return hashlib.sha256(dumps(value).encode()).hexdigest()


def stable_seed(*parts: str | int) -> int:
    """Return a seed in [0, 2**32) that depends on ``parts`` alone: not on process, machine or PYTHONHASHSEED."""
    return int(digest([str(part) for part in parts])[:8], 16)
