"""The journal of answers: append-only JSON lines, one an answer as it comes, keyed by the request.

A line is handed to the system before the next request is sent, so that killing the process loses nothing that came;
it is forced to the disk in groups. What a crash cut off is cut away on opening.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from fewtable.errors import DataError
from fewtable.files import dumps

GROUP = 64
"""Lines after which the file is forced to the disk, ..."""
SECONDS = 1.0
"""... or the time after which it is, whichever comes first."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What a teacher wrote for one request, untouched; ``refused`` says why it wrote nothing."""

    key: str
    answer: str = ""
    finish: str = "stop"
    """``length`` where the endpoint cut the answer."""
    tokens: tuple[int, int] = (0, 0)
    """Input and output tokens, as the endpoint counts them."""
    refused: str | None = None
    again: bool = False
    """Whether the next run asks again: a failure that may pass is no answer for good, and is not written down."""

    def as_dict(self) -> dict[str, Any]:
        """Return the answer as a journal's line holds it."""
        if self.refused is not None:
            return {"key": self.key, "refused": self.refused}
        return {"key": self.key, "answer": self.answer, "finish": self.finish, "tokens": list(self.tokens)}


class Journal:
    """The answers so far, and the file that they are added to. One process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {}
        self.lost = [0, 0]
        """Tokens at most that requests without an answer may have been billed."""
        self._unsynced = 0
        self._synced_at = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock()
            self._load()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._sync()
        finally:
            os.close(self._file)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                "another annotation writes this journal", where=str(self.path), fix="wait for it, or stop it"
            ) from None

    def _load(self) -> None:
        """Read all lines; a last line without its end is cut off, other broken ones are passed over and asked again."""
        whole = broken = 0
        with self.path.open("rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                broken += not self._read(line)
        if whole < self.path.stat().st_size:
            log.warning("%s: the last line was cut; it is taken off", self.path)
            os.ftruncate(self._file, whole)
        if broken:
            log.warning("%s: %d broken lines, asked again", self.path, broken)

    def _read(self, line: bytes) -> bool:
        try:
            row = json.loads(line)
            if "lost" in row:
                self._lose(*map(int, row["lost"]))
            elif "retry" in row:
                self._forget()
            elif "refused" in row:
                self.answers[row["key"]] = Answer(row["key"], refused=str(row["refused"]))
            else:
                sent, got = map(int, row["tokens"])
                self.answers[row["key"]] = Answer(row["key"], str(row["answer"]), str(row["finish"]), (sent, got))
        except (ValueError, KeyError, TypeError):
            return False
        return True

    def add(self, answer: Answer) -> None:
        """Write an answer down, but one that is to be asked ``again``.

        Raises:
            DataError: the disk is full; the journal ends with a whole line.
        """
        if not answer.again:
            self._append(answer.as_dict())
        self.answers[answer.key] = answer

    def add_lost(self, sent: int, got: int) -> None:
        """Write down that a request brought no answer but may have been billed."""
        self._append({"lost": [sent, got]})
        self._lose(sent, got)

    @property
    def billed(self) -> tuple[int, int]:
        """Input and output tokens of all answers, and at most of what was lost."""
        sent, got = (sum(a.tokens[i] for a in self.answers.values()) + self.lost[i] for i in (0, 1))
        return sent, got

    def retry_refused(self) -> None:
        """Have all that was refused so far asked again, by this run or a later one."""
        self._append({"retry": "refused"})
        self._forget()

    def _forget(self) -> None:
        self.answers = {key: answer for key, answer in self.answers.items() if answer.refused is None}

    def _lose(self, sent: int, got: int) -> None:
        self.lost = [self.lost[0] + sent, self.lost[1] + got]

    def _append(self, row: dict[str, Any]) -> None:
        line = (dumps(row) + "\n").encode()
        size = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            self._unsynced += 1
            if self._unsynced >= GROUP or time.monotonic() - self._synced_at >= SECONDS:
                self._sync()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            os.ftruncate(self._file, size)  # half a line must not stand before what comes next
            raise no_room(self.path, len(self.answers)) from None

    def _sync(self) -> None:
        if self._unsynced:
            os.fsync(self._file)
        self._unsynced, self._synced_at = 0, time.monotonic()


def no_room(path: Path, kept: int) -> DataError:
    """Return what is said when the disk is full."""
    return DataError(
        f"the disk is full; {kept} answers are kept", where=str(path), fix="make room and run it again: it goes on"
    )
