"""Tracking in batches against logging item by item, as a script with mlflow.log_param/log_metric would.

Both sides write the same cells to sqlite stores of their own, through MlflowClient; that they hold the same is asserted
before any figure is printed. Rounds are interleaved; a round's time includes drawing and storing the artifacts.

Run:  python benchmarks/tracking.py [--cells 2] [--rounds 3] [--steps 100]
Prints the ratio of minimum and median seconds a cell, and fails below 8.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag

from fewtable.specs import TrackingSpec
from fewtable.tracking import track_all
from fewtable.tracking.pictures import write_artifacts
from fewtable.tracking.record import Told, cell_files, read_record
from fewtable.tracking.writer import open_store
from fixtures.mlflow_store import dump
from fixtures.results_tree import write_results_tree

TARGET = 8.0


def item_wise(client: Any, experiment: str, results: Path, key: str) -> None:
    """Log one cell: a call for every tag, param, metric, data set and file."""
    record = read_record(results, key, {})
    dataset = key.partition("/")[0]

    def start(told: Told, parent: str | None) -> str:
        run_id = str(client.create_run(experiment, record.time, run_name=told.tags["mlflow.runName"]).info.run_id)
        extra = {"mlflow.parentRunId": parent} if parent else {}
        for tag, value in {**told.tags, **extra, "mlflow.user": "root"}.items():
            client.set_tag(run_id, tag, value)
        for name, value in told.params.items():
            client.log_param(run_id, name, value)
        for point in told.metrics:
            client.log_metric(run_id, point.name, point.value, record.time, point.step)
        return run_id

    parent = start(record.parent, None)
    for split, sha in record.data.items():
        data = Dataset(f"{dataset}/{split}", sha[:32], "local", f"results/data/{dataset}/{split}.jsonl")
        client.log_inputs(parent, [DatasetInput(data, [InputTag("mlflow.data.context", split)])])
    for told in record.children.values():
        client.set_terminated(start(told, parent), "FINISHED", record.time)
    with tempfile.TemporaryDirectory() as folder:
        write_artifacts(results, key, Path(folder))
        for file in sorted(Path(folder).iterdir()):
            client.log_artifact(parent, str(file))
    client.set_terminated(parent, "FINISHED", record.time)


def prepare(folder: Path, cells: int, steps: int) -> Path:
    """Write a tree of ``cells`` cells of 2 draws, 3 types and ``steps`` training steps a draw."""
    results = folder / "results"
    write_results_tree(results)
    lines = [json.dumps({"step": i, "loss": 2.0 / i, "lr": 1e-4}) + "\n" for i in range(1, steps + 1)]
    for log in (results / "runs").rglob("train.jsonl"):
        log.write_text("".join(lines))
    source = "toy/2-shot/lc-bert/minilm"
    for path in cell_files(results).values():
        if path != results / "cells" / f"{source}.json":
            path.unlink()
    for number in range(1, cells):
        target = f"toy/2-shot/lc-bert/b{number}"
        shutil.copytree(results / "runs" / source, results / "runs" / target)
        shutil.copy2(results / "cells" / f"{source}.json", results / "cells" / f"{target}.json")
    return results


def comparable(uri: str) -> list[dict[str, Any]]:
    """Return a store's content without the user's name, which the two sides learn in different ways."""
    shown = dump(uri)
    for run in shown:
        run["tags"].pop("mlflow.user", None)
    return shown


def measure(cells: int, rounds: int, steps: int) -> tuple[list[float], list[float]]:
    """Return seconds a cell of each round: item-wise, batched."""
    slow, fast = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = prepare(folder, cells, steps)
        for number in range(rounds + 1):  # the first round warms up and is checked
            (results / "tracking" / ".index.json").unlink(missing_ok=True)
            ours = TrackingSpec(uri=f"sqlite:///{folder}/ours{number}.db")
            open_store(results, ours)
            # the item-wise side keeps MLflow's own pool of connections, which is faster for it
            os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "QueuePool"
            theirs = f"sqlite:///{folder}/theirs{number}.db"
            client = MlflowClient(tracking_uri=theirs)
            experiment = client.create_experiment("fewtable", str(folder / f"theirs{number}"))
            del os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"]

            start = time.perf_counter()
            for key in cell_files(results):
                item_wise(client, experiment, results, key)
            middle = time.perf_counter()
            outcome = track_all(results, ours, {})
            end = time.perf_counter()
            assert len(outcome.logged) == cells, outcome
            if number == 0:
                assert comparable(theirs) == comparable(ours.uri), "the two stores differ"
            else:
                slow.append((middle - start) / cells)
                fast.append((end - middle) / cells)
    return slow, fast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100, help="of a draw; the demo's LC-BERT takes more")
    args = parser.parse_args()
    slow, fast = measure(args.cells, args.rounds, args.steps)
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    print("the two stores hold the same: yes")
    print(f"item-wise  min {min(slow):.3f} s a cell, median {statistics.median(slow):.3f}")
    print(f"batched    min {min(fast):.3f} s a cell, median {statistics.median(fast):.3f}")
    best = min(slow) / min(fast)
    print(f"ratio      {best:.1f} of minima; rounds {min(ratios):.1f} to {max(ratios):.1f} (target {TARGET:.0f})")
    if best < TARGET:
        sys.exit(f"below the target: {best:.1f} < {TARGET:.0f}")


if __name__ == "__main__":
    main()
