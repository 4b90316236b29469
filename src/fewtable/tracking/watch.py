"""The loss curves of running jobs as they grow: on the terminal and in the store."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from fewtable.errors import DataError
from fewtable.specs import TrackingSpec
from fewtable.tracking.record import Point, curve
from fewtable.tracking.store import Store, StoreError
from fewtable.tracking.writer import open_store, writer_lock

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 30


@dataclass
class Tail:
    """What has been read of one growing train log."""

    key: str
    draw: str
    path: Path
    offset: int = 0
    losses: list[float] = field(default_factory=list)
    last: dict[str, float] = field(default_factory=dict)
    step: int = -1
    unsent: list[Point] = field(default_factory=list)
    run_id: str | None = None

    def read(self) -> None:
        """Read the finished lines that came since the last call."""
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            text = stream.read()
        text = text[: text.rfind(b"\n") + 1]
        self.offset += len(text)
        for point in curve(text.decode(), str(self.path)):
            if point.step < self.step:
                continue  # a resumed job writes the steps since its last checkpoint again
            self.step = point.step
            self.last[point.name] = point.value
            self.unsent.append(point)
            if point.name == "train/loss":
                self.losses.append(point.value)

    def line(self) -> str:
        """Return the line a person sees."""
        values = "  ".join(f"{n.removeprefix('train/')} {v:.4g}" for n, v in sorted(self.last.items()))
        return f"{self.key} draw {self.draw}  step {self.step}  {values}  {sparkline(self.losses)}"


def sparkline(values: list[float]) -> str:
    """Return a curve in block characters, at most 30 wide (means of equal stretches)."""
    size = max(1, -(-len(values) // _WIDTH))
    means = [sum(values[i : i + size]) / len(values[i : i + size]) for i in range(0, len(values), size)]
    if not means:
        return ""
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(_BARS[int((value - low) / span * (len(_BARS) - 1))] for value in means)


def running(results: Path) -> dict[tuple[str, str], Path]:
    """Return the train logs of running (or killed, to be resumed) jobs: (cell key, draw) -> file."""
    root = results / "checkpoints"
    found = {}
    for path in sorted(root.glob("*/*/*/*/*/*/train.jsonl")):
        *key, _, draw, _ = path.relative_to(root).parts
        found["/".join(key), draw] = path
    return found


def watch(
    results: Path,
    tracking: TrackingSpec,
    *,
    interval: float = 2.0,
    stop: Callable[[], bool] = lambda: False,
    out: TextIO | None = None,
) -> None:
    """Show and log the loss curves of running jobs until interrupted.

    A store that is down is said once; the curves are shown all the same.

    Args:
        results: the results folder.
        tracking: the store.
        interval: seconds between two looks.
        stop: asked after each look.
        out: where to show; stdout when None.
    """
    out = out or sys.stdout
    tails: dict[tuple[str, str], Tail] = {}
    shown: list[str] | None = None
    logging = _Logging(results, tracking)
    try:
        while True:
            lines = _look(results, tails, logging)
            if lines != shown:
                _show(lines or ["no training is running; waiting"], shown, out)
                shown = lines
            if stop():
                return
            time.sleep(interval)
    except KeyboardInterrupt:
        print(file=out)


def _look(results: Path, tails: dict[tuple[str, str], Tail], logging: _Logging) -> list[str]:
    found = running(results)
    for identity in [i for i in tails if i not in found]:
        logging.end(tails.pop(identity))
    for identity, path in found.items():
        tail = tails.setdefault(identity, Tail(*identity, path))
        try:
            tail.read()
        except FileNotFoundError:
            continue  # it ended between the two looks
        except DataError as error:
            print(error, file=sys.stderr)
    logging.send([tail for tail in tails.values() if tail.unsent])
    return [tail.line() for tail in tails.values()]


def _show(lines: list[str], before: list[str] | None, out: TextIO) -> None:
    if out.isatty() and before is not None:
        out.write(f"\x1b[{max(1, len(before))}A\x1b[J")
    out.write("".join(f"{line}\n" for line in lines))
    out.flush()


class _Logging:
    """The store's side: opened at the first curve, given up when it is down."""

    def __init__(self, results: Path, tracking: TrackingSpec) -> None:
        self._results, self._tracking = results, tracking
        self._store: Store | None = None
        self._down = False

    def send(self, tails: list[Tail]) -> None:
        if tails and not self._down:
            self._guarded(lambda store: self._send(store, tails))

    def end(self, tail: Tail) -> None:
        run_id = tail.run_id
        if run_id is not None and not self._down:
            self._guarded(lambda store: store.end(run_id, _now()))

    @staticmethod
    def _send(store: Store, tails: list[Tail]) -> None:
        for tail in tails:
            if tail.run_id is None:
                tail.run_id, last = store.live(tail.key, tail.draw, _now())
                tail.unsent = [point for point in tail.unsent if point.step > last]
            if tail.unsent:
                store.grow(tail.run_id, tail.unsent, _now())
            tail.unsent = []

    def _guarded(self, action: Callable[[Store], None]) -> None:
        try:
            with writer_lock(self._results):
                self._store = self._store or open_store(self._results, self._tracking)
                action(self._store)
        except StoreError as error:
            self._down = True
            print(f"the curves are shown but not logged: {error}", file=sys.stderr)


def _now() -> int:
    return int(time.time() * 1000)
