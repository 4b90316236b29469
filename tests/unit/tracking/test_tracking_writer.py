from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fewtable.errors import DataError
from fewtable.files import read_json
from fewtable.specs import TrackingSpec
from fewtable.tracking import rebuild, track_all, track_cell
from fixtures.mlflow_store import dump, serve

KEY = "toy/2-shot/lc-bert/minilm"
KEYS = ["toy/2-shot/instructionner/smollm2", KEY, "toy/2-shot/lexicon/none"]


def job(root: Path, results: Path, key: str, uri: str) -> list[str]:
    """Return the command of a ``track`` job."""
    user = results / "user.json"
    user.write_text(json.dumps({"tracking": {"uri": uri}}))
    command = [sys.executable, str(root / "workflow/scripts/track.py"), "--user", str(user)]
    command += ["--cell", str(results / "cells" / f"{key}.json"), "--results", str(results)]
    return [*command, "--output", str(results / "tracking" / f"{key}.json")]


def test_a_cell_is_logged_once_whole(results: Path) -> None:
    tracking = TrackingSpec(uri=f"sqlite:///{results}/mlflow.db")
    first = track_all(results, tracking, {KEY: {"tables": "demo"}})
    assert (first.logged, first.known, first.skipped, first.delayed) == (KEYS, [], {}, None)
    shown = dump(tracking.uri)
    assert len(shown) == 3 * (1 + 2)
    assert {run["status"] for run in shown} == {"FINISHED"}
    parent = next(r for r in shown if r["tags"]["fewtable.cell"] == KEY and r["parent"] is None)
    cell = read_json(results / "cells" / f"{KEY}.json")
    assert parent["metrics"]["strict.f1"][0][1] == cell["metrics"]["strict.f1"]["mean"]
    assert parent["tags"]["tables"] == "demo"
    assert parent["data"] == sorted((f"toy/{split}", sha[:32]) for split, sha in cell["data"].items())
    assert parent["artifacts"] == ["cell.json", "confusion.png", "predictions.html", "predictions.json"]
    child = next(r for r in shown if r["parent"] == parent["name"] and r["tags"]["fewtable.draw"] == "1")
    assert [step for step, _, _ in child["metrics"]["train/loss"]] == list(range(1, 21))

    again = track_all(results, tracking, {KEY: {"tables": "demo"}})
    assert (again.logged, again.known) == ([], KEYS)
    assert dump(tracking.uri) == shown


def test_logging_again_without_the_index_finds_what_is_there(results: Path, tracking: TrackingSpec) -> None:
    track_all(results, tracking, {})
    shown = dump(tracking.uri)
    (results / "tracking" / ".index.json").unlink()
    track_all(results, tracking, {})
    assert dump(tracking.uri) == shown


def test_new_content_takes_the_place_of_the_old(
    results: Path, tracking: TrackingSpec, edit: Callable[[str, float], None]
) -> None:
    track_all(results, tracking, {})
    edit(KEY, 12.5)
    outcome = track_all(results, tracking, {})
    assert (outcome.logged, len(outcome.known)) == ([KEY], 2)
    shown = [r for r in dump(tracking.uri) if r["tags"]["fewtable.cell"] == KEY]
    assert len(shown) == 3
    assert [r["metrics"]["strict.f1"][0][1] for r in shown if r["parent"] is None] == [12.5]


def test_new_labels_make_no_new_run(results: Path, tracking: TrackingSpec) -> None:
    before = track_all(results, tracking, {KEY: {"tables": "demo", "paper": "p"}}).entries[KEY]["run_id"]
    after = track_all(results, tracking, {KEY: {"tables": "demo, table1"}}).entries[KEY]["run_id"]
    assert after == before
    tags = [r["tags"] for r in dump(tracking.uri) if r["tags"]["fewtable.cell"] == KEY and not r["parent"]]
    assert [(t["tables"], t["paper"]) for t in tags] == [("demo, table1", "")]


def test_rebuild_gives_the_same(results: Path, tracking: TrackingSpec, edit: Callable[[str, float], None]) -> None:
    edit(KEY, 50.0)
    track_all(results, tracking, {})
    edit(KEY, 60.0)
    track_all(results, tracking, {})
    shown = dump(tracking.uri)
    deleted = len(list((results / "mlartifacts").iterdir()))
    (results / "tracking" / ".index.json").write_text("{}", encoding="utf-8")
    outcome = rebuild(results, tracking, {})
    assert outcome.logged == KEYS
    assert dump(tracking.uri) == shown
    assert (deleted, len(list((results / "mlartifacts").iterdir()))) == (4, 3)
    assert track_all(results, tracking, {}).known == KEYS


def test_rebuild_leaves_other_peoples_runs(results: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    shared = TrackingSpec(uri=f"sqlite:///{tmp_path}/shared.db")
    track_all(results, shared, {})
    client = MlflowClient(tracking_uri=shared.uri)
    experiment = client.get_experiment_by_name("fewtable").experiment_id
    client.create_run(experiment, run_name="mine")
    theirs = {"fewtable.cell": KEY, "mlflow.user": "somebody-else"}
    client.create_run(experiment, run_name="theirs", tags=theirs)
    rebuild(results, shared, {})
    names = [run["name"] for run in dump(shared.uri, artifacts=False)]
    assert len(names) == 9 + 2
    assert {"mine", "theirs"} <= set(names)


def test_a_malformed_cell_stops_only_itself(results: Path, tracking: TrackingSpec) -> None:
    (results / "cells" / f"{KEY}.json").write_text("{}", encoding="utf-8")
    outcome = track_all(results, tracking, {})
    assert list(outcome.skipped) == [KEY]
    assert len(outcome.logged) == 2
    with pytest.raises(DataError):
        track_cell(results, KEY, results / "tracking/x.json", tracking, {})


def test_a_cell_whose_runs_are_gone_is_logged_without_pictures(
    results: Path, tracking: TrackingSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(results / "runs" / KEY)
    outcome = track_all(results, tracking, {})
    assert len(outcome.logged) == 3
    assert f"{KEY} has no pictures" in capsys.readouterr().err


@pytest.mark.slow
def test_eight_jobs_at_once_lose_and_double_nothing(root: Path, results: Path, tracking: TrackingSpec) -> None:
    keys = [f"toy/2-shot/lc-bert/b{i}" for i in range(8)]
    for key in keys:
        copy_cell(results, KEY, key)
    jobs = [subprocess.Popen(job(root, results, key, tracking.uri), stderr=subprocess.PIPE, text=True) for key in keys]
    said = [process.communicate(timeout=120)[1] for process in jobs]
    assert [process.returncode for process in jobs] == [0] * 8, said
    assert sorted(line for text in said for line in text.splitlines() if " 11 cells logged" in line) != []
    assert len([text for text in said if "track: 0 cells logged, 11 in the store" in text]) == 7, said
    shown = dump(tracking.uri, artifacts=False)
    assert len(shown) == 11 * 3
    outputs = [read_json(results / "tracking" / f"{key}.json") for key in keys]
    assert {o["status"] for o in outputs} == {"logged"}
    assert len({o["run_id"] for o in outputs}) == 8


@pytest.mark.slow
def test_killed_in_the_middle_of_a_batch_the_next_call_completes_it(
    root: Path, results: Path, tracking: TrackingSpec, tmp_path: Path
) -> None:
    for number in range(12):
        copy_cell(results, KEY, f"toy/2-shot/lc-bert/b{number}")
    whole = TrackingSpec(uri=f"sqlite:///{tmp_path}/whole.db")
    shutil.copy(results / "mlflow.db", tmp_path / "whole.db")
    track_all(results, whole, {})
    (results / "tracking/.index.json").unlink()

    kills = 0
    for wait in (1, 4, 7):
        process = subprocess.Popen(job(root, results, KEY, tracking.uri), stderr=subprocess.DEVNULL)
        wait_for_runs(tracking.uri, wait, process)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills == 3
    partial = dump(tracking.uri, artifacts=False)
    assert 0 < len(partial) < 15 * 3
    outcome = track_all(results, tracking, {})
    assert outcome.delayed is None
    assert dump(tracking.uri) == dump(whole.uri)


def test_a_server_that_is_down_delays(root: Path, results: Path, tracking: TrackingSpec) -> None:
    process = subprocess.run(
        job(root, results, KEY, "http://me:pass-word@127.0.0.1:9"),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ | {"NO_PROXY": "127.0.0.1"},
    )
    output = results / "tracking" / f"{KEY}.json"
    assert process.returncode == 0
    assert "delayed" in process.stderr
    assert read_json(output)["status"] == "delayed"
    everything = process.stderr + "".join(
        f.read_text(encoding="utf-8") for f in (results / "tracking").rglob("*") if f.is_file()
    )
    assert "pass-word" not in everything

    track_all(results, tracking, {})
    assert read_json(output)["status"] == "logged"
    assert len(dump(tracking.uri, artifacts=False)) == 9


@pytest.mark.slow
def test_a_server_holds_the_same_as_sqlite(
    results: Path, tracking: TrackingSpec, tmp_path: Path, edit: Callable[[str, float], None]
) -> None:
    track_all(results, tracking, {KEY: {"tables": "demo"}})
    with serve(tmp_path / "server") as address:
        server = TrackingSpec(uri=address)
        edit(KEY, 1.0)
        track_all(results, server, {KEY: {"tables": "demo"}})
        edit(KEY, 2.0)
        track_all(results, server, {KEY: {"tables": "demo"}})
        track_all(results, tracking, {KEY: {"tables": "demo"}})
        assert dump(address) == dump(tracking.uri)
        rebuild(results, server, {KEY: {"tables": "demo"}})
        assert dump(address) == dump(tracking.uri)


def copy_cell(results: Path, source: str, target: str) -> None:
    shutil.copytree(results / "runs" / source, results / "runs" / target)
    shutil.copy2(results / "cells" / f"{source}.json", results / "cells" / f"{target}.json")


def wait_for_runs(uri: str, more: int, process: subprocess.Popen[str]) -> None:
    """Wait until the store has at least ``more`` runs more than now."""
    import sqlite3

    path = uri.removeprefix("sqlite:///")

    def count() -> int:
        with sqlite3.connect(path, timeout=10) as connection:
            return int(connection.execute("select count(*) from runs").fetchone()[0])

    start = count()
    while count() < start + more:
        assert process.poll() is None, "the job ended before it could be killed"
        time.sleep(0.005)
