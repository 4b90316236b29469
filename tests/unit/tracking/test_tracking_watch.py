from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from fewtable.specs import TrackingSpec
from fewtable.tracking import track_all, watch
from fewtable.tracking.watch import running, sparkline
from fixtures.mlflow_store import dump

KEY = "toy/2-shot/lc-bert/minilm"


def write_log(results: Path, steps: range, tail: str = "") -> Path:
    path = results / "checkpoints" / KEY / "1-2" / "1" / "train.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"step": s, "loss": 10.0 / s}) + "\n" for s in steps)
        stream.write(tail)
    return path


def test_curves_grow_on_the_terminal_and_in_the_store(results: Path, tracking: TrackingSpec) -> None:
    path = write_log(results, range(1, 4), tail='{"step": 4, "lo')
    assert list(running(results)) == [(KEY, "1")]
    out = io.StringIO()
    looks = 0

    def stop() -> bool:
        nonlocal looks
        looks += 1
        if looks == 1:
            path.write_text(path.read_text().rpartition("\n")[0] + "\n", encoding="utf-8")
            write_log(results, range(4, 7))
        if looks == 3:
            path.unlink()
        return looks == 4

    watch(results, tracking, interval=0.01, stop=stop, out=out)
    assert f"{KEY} draw 1  step 3  loss 3.333" in out.getvalue()
    assert "step 6  loss 1.667" in out.getvalue()
    (live,) = dump(tracking.uri, artifacts=False)
    assert live["name"].endswith("(running)")
    assert live["status"] == "FINISHED"
    assert [(step, value) for step, value, _ in live["metrics"]["train/loss"]] == [(s, 10.0 / s) for s in range(1, 7)]

    track_all(results, tracking, {})
    assert not [r for r in dump(tracking.uri, artifacts=False) if r["name"].endswith("(running)")]


def test_a_second_watch_goes_on_where_the_first_was(results: Path, tracking: TrackingSpec) -> None:
    write_log(results, range(1, 4))
    watch(results, tracking, stop=lambda: True, out=io.StringIO())
    write_log(results, range(4, 6))
    watch(results, tracking, stop=lambda: True, out=io.StringIO())
    (live,) = dump(tracking.uri, artifacts=False)
    assert [step for step, _, _ in live["metrics"]["train/loss"]] == [1, 2, 3, 4, 5]


def test_a_store_that_is_down_hides_no_curve(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    write_log(results, range(1, 4))
    out = io.StringIO()
    watch(results, TrackingSpec(uri="http://127.0.0.1:9"), stop=lambda: True, out=out)
    assert "step 3" in out.getvalue()
    assert "shown but not logged" in capsys.readouterr().err


def test_a_sparkline_goes_down_with_the_loss() -> None:
    line = sparkline([float(v) for v in range(90, 0, -1)])
    assert len(line) == 30
    assert line[0] == "█" and line[-1] == "▁"
    assert sparkline([1.0, 1.0]) == "▁▁"
    assert sparkline([]) == ""
