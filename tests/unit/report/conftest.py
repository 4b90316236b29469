from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewtable.files import write_json
from fewtable.report import build_report
from fixtures.results_tree import METHODS, write_results_tree

ROWS = {"lexicon": "Lexicon", "lc-bert": "LC-BERT", "instructionner": "InstructionNER <i>"}


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "results"
    write_results_tree(folder, queries=120)
    key = f"toy/2-shot/lc-bert/{METHODS['lc-bert'][0]}"
    tracked = {"status": "logged", "experiment": "fewtable", "run_id": "abc123", "draws": {"1": "def456"}}
    write_json(folder / "tracking" / f"{key}.json", tracked)
    return folder


@pytest.fixture(scope="session")
def params() -> dict[str, Any]:
    rows = [{"id": name, "title": title, "method": name, "backbone": METHODS[name][0]} for name, title in ROWS.items()]
    columns = [
        {"id": "toy", "title": "2-shot", "group": "Toy", "dataset": "toy", "setting": "2-shot"},
        {"id": "onto", "title": "10-shot", "group": "OntoNotes", "dataset": "ontonotes", "setting": "10-shot"},
    ]
    return {
        "name": "toy",
        "table": {"title": "Toy", "rows": rows, "columns": columns, "compare": [["lc-bert", "lexicon"]]},
        "notes": {},
        "cells": {
            f"{r['id']}/{c['id']}": f"{c['dataset']}/{c['setting']}/{r['method']}/{r['backbone']}"
            for r in rows
            for c in columns
        },
        "blocked": {f"{r['id']}/onto": "licence: set licensed.ontonotes" for r in rows},
    }


@pytest.fixture(scope="session")
def html(tree: Path, params: dict[str, Any]) -> str:
    return build_report([params], tree)
