"""The command line as a person uses it: output, errors without tracebacks, exit codes."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewtable import cli
from fewtable.corpus import EntityType, Sample, read_sentences, write_samples
from fewtable.predictions import make_format


def run(root: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fewtable.cli", *arguments]
    return subprocess.run(command, cwd=root, input=stdin, capture_output=True, text=True, check=False)


def fails(done: subprocess.CompletedProcess[str], *said: str, code: int = 1) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for part in said:
        assert part in done.stderr


def test_help_teaches(root: Path) -> None:
    done = run(root, "--help")
    assert done.returncode == 0
    for command in ("show", "check", "data", "sample", "prompts", "parse", "score", "compare", "predict", "track"):
        assert command in done.stdout
    assert "examples:" in done.stdout


def test_show_resolves(root: Path) -> None:
    method = run(root, "show", "method", "lc-bert", "--setting", "10-shot", "--backbone", "bert-large-cased")
    assert "batch_size: 2\n" in method.stdout
    assert "lr: 2.0e-05\n" in method.stdout
    assert "sha256" in run(root, "show", "dataset", "wnut16").stdout
    table = run(root, "show", "table", "demo")
    assert "wnut16-demo/5-shot-300/lc-bert/minilm" in table.stdout


def test_it_says_which_run_is_shown(root: Path) -> None:
    shown = run(root, "show", "method", "lc-bert", "--setting", "10-shot", "--dataset", "mit-movie")
    assert re.match(r"# mit-movie/10-shot/lc-bert/\S+\n", shown.stdout)
    prompts = run(root, "prompts", "instructionner-causal", "wnut16-demo", "--limit", "1")
    assert re.search(r"^backbone: \S+$", prompts.stderr, re.M) and len(prompts.stdout.splitlines()) == 1
    row = json.loads(prompts.stdout)
    assert row["text"] == f"{row['prompt']}\nAnswer: {row['target']}</s>"


def test_a_missing_package_is_said_with_its_extra(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def needs(name: str) -> Callable[[argparse.Namespace], int]:
        def action(_: argparse.Namespace) -> int:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

        return action

    for name, extra in (("mlflow.entities", "[tracking]"), ("pulp", "[workflow]"), ("torch", "[models]")):
        monkeypatch.setattr(cli, "_check", needs(name))
        assert cli.main(["check"]) == 1
        said = capsys.readouterr().err
        assert f"'{name.partition('.')[0]}' is not installed" in said and extra in said
    monkeypatch.setattr(cli, "_check", needs("fewtable.typo"))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["check"])


def test_fetch_verifies_what_is_there(root: Path, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("")
    (tmp_path / "config/datasets").mkdir()
    (tmp_path / "own").write_text("whole\n")
    files = {"f": {"sha256": hashlib.sha256(b"whole\n").hexdigest(), "sources": [{"path": "own"}]}}
    value = {"title": "T", "domain": "d", "licence": "l", "reader": "columns", "files": files}
    value |= {"splits": {"test": {"files": ["f"]}}, "types": {}}
    (tmp_path / "config/datasets/toy.yaml").write_text(json.dumps(value))
    raw = tmp_path / "results/raw/toy/f"
    raw.parent.mkdir(parents=True)
    raw.write_text("half")
    assert run(tmp_path, "data", "fetch", "toy").returncode == 0 and raw.read_text() == "whole\n"
    assert "already there" in run(tmp_path, "data", "fetch", "toy").stdout


def test_predict_of_a_draw_without_sample(root: Path, tmp_path: Path) -> None:
    key = {"dataset": "wnut16-demo", "setting": "5-shot", "method": "lc-bert", "backbone": "minilm"}
    spec = {**key, "draws": [1], "types": {}, "family": "tagger", "format": {"name": "bio"}, "train": {}}
    folder = tmp_path / "results/runs" / "/".join(key.values()) / "1-1/model"
    (folder / "7").mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps({**spec, "dtype": "float32", "code": ""}))
    samples = tmp_path / "results/samples/wnut16-demo/5-shot/1-1.jsonl"
    write_samples(samples, [Sample(1, (), (), (), {})])
    (tmp_path / "config").symlink_to(root / "config")
    fails(run(tmp_path, "predict", str(folder / "7"), "a b"), "the sample of draw 7 is not in this file", "1-1.jsonl")


def test_check_says_what_is_missing_and_what_it_blocks(root: Path) -> None:
    done = run(root, "check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all config is valid" in done.stdout
    assert "missing: " in done.stdout and "blocks" in done.stdout


def project(root: Path, copy: Path) -> None:
    """Make a folder with the config to edit, and all else that a check looks at."""
    shutil.copytree(root / "config", copy / "config")
    for name in ("src", "workflow"):
        (copy / name).symlink_to(root / name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("family: tager\nformat: {name: bio}", "did you mean 'tagger'?"),
        ("extends: lc-bert\ntrain: {min_step: 5}", "did you mean 'min_steps'?"),
        ("extends: lc-bert\nwhen: [{backbone: [minlm], set: {train: {lr: 1.0}}}]", "did you mean 'minilm'?"),
        ("extends: lc-bert\nwhen: [{setting: [10-shot], set: {train: {lrr: 1.0}}}]", "lrr"),
        ("extends: lc-bert\ninit: {method: lc-brt}", "did you mean 'lc-bert'?"),
    ],
)
def test_check_looks_at_methods_that_no_table_shows(root: Path, tmp_path: Path, text: str, said: str) -> None:
    project(root, tmp_path)
    (tmp_path / "config/methods/own.yaml").write_text(f"title: own\n{text}\n")
    done = run(tmp_path, "check")
    assert done.returncode == 1
    assert "own" in done.stdout and said in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(("kind", "name"), [("teachers", "gpt-4o-mini"), ("methods", "lc-bert"), ("corpora", "pile")])
def test_check_says_the_rest_beside_a_broken_file(root: Path, tmp_path: Path, kind: str, name: str) -> None:
    project(root, tmp_path)
    path = tmp_path / f"config/{kind}/{name}.yaml"
    path.write_text(path.read_text() + "\nspelt: wrong\n")
    done = run(tmp_path, "check")
    assert done.returncode == 1 and f"{path.relative_to(tmp_path)}:spelt" in done.stdout
    assert "missing: " in done.stdout and "blocks" in done.stdout
    errors = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(set(errors)) and all("spelt" in line for line in errors)


def test_show_a_teacher_and_a_corpus(root: Path) -> None:
    done = run(root, "show", "teacher", "gpt-4o-mini-definition")
    assert "prompt: definition\n" in done.stdout and "in_flight: 64\n" in done.stdout, done.stderr
    assert "max_tokens: 256\n" in run(root, "show", "corpus", "pile").stdout
    fails(run(root, "show", "corpus", "pil"), "did you mean 'pile'?")


def test_what_is_shown_has_a_backbone_that_is_at_hand(root: Path) -> None:
    for method, backbone in (("uniner-type", "smollm2-135m"), ("lc-bert", "minilm"), ("ye", "smollm2-135m")):
        shown = run(root, "show", "method", method, "--dataset", "mit-movie")
        assert shown.stdout.splitlines()[0].endswith(f"/{method}/{backbone}"), shown.stdout + shown.stderr


OPEN = """title: T
domain: d
licence: l
reader: sentences
files: {f: {sources: [{path: own.jsonl}]}}
splits: {train: {files: [f]}, test: {files: [f]}}
types: {}
open_types: true
"""


def test_prompts_of_the_training(root: Path, tmp_path: Path) -> None:
    """What a model learns: conversations with negative types and shuffled turns, those of the asked draw."""
    shutil.copytree(root / "config", tmp_path / "config")
    (tmp_path / "config/datasets/toy.yaml").write_text(OPEN)
    kinds = ["person", "city", "river", "club"]
    rows = [
        {"id": f"train-{i:06d}", "words": ["Ann", f"x{i}"], "entities": [[0, 1, kinds[i % 4]], [1, 2, kinds[i % 3]]]}
        for i in range(12)
    ]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fails(run(tmp_path, "prompts", "uniner-type-source", "toy"), "has open types", "--training")
    shown = run(tmp_path, "prompts", "uniner-type-source", "toy", "--training", "--limit", "5")
    found = [json.loads(line) for line in shown.stdout.splitlines()]
    assert len(found) == 5, shown.stderr
    format_ = make_format({"name": "uniner"}, [EntityType(kind, kind, "") for kind in sorted(kinds)])
    wanted = format_.examples(read_sentences(tmp_path / "own.jsonl"), 1)[:5]
    assert [(row["prompt"], row["target"]) for row in found] == [(e.prompt, e.target) for e in wanted]
    assert [[turn["prompt"] for turn in row["before"]] for row in found] == [
        [t.prompt for t in e.before] for e in wanted
    ]
    assert any(turn["target"] == "[]" for row in found for turn in [*row["before"], row]), "negative types"
    other = run(tmp_path, "prompts", "uniner-type-source", "toy", "--training", "--limit", "5", "--draw", "2")
    assert other.stdout != shown.stdout and other.returncode == 0
    command = ("prompts", "uniner-type", "mit-movie", "--setting", "zero-shot", "--training")
    fails(run(root, *command), "trains nothing", "fewtable prompts uniner-type-source ")
    fails(run(root, *command, "--split", "test"), "--split")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "method", "lc-brt"), "did you mean 'lc-bert'?"),
        (("show", "dataset", "mit-movi"), "did you mean 'mit-movie'?"),
        (("prompts", "instructionner", "wnut"), "unknown dataset 'wnut'"),
        (("parse", "instructioner", "--types", "a"), "did you mean 'instructionner'?"),
        (("sample", "wnut16-demo", "5-shoot"), "unknown setting '5-shoot'"),
        (("predict", "results/nowhere", "text"), "no trained model here"),
        (("score", "--gold", "nowhere", "--pred", "nowhere"), "nowhere"),
        (("score", "--gold", "config", "--pred", "config"), "config: Is a directory"),
        (
            ("sample", "fewnerd-inter-episodes", "5-way-1-shot-official", "--draw", "51"),
            "results/samples/fewnerd-inter-episodes/5-way-1-shot-official/51-100.jsonl",
        ),
        (("show", "method", "lc-bert", "--setting", "10-shott"), "did you mean '10-shot'?"),
        (("show", "method", "lc-bert", "--dataset", "mit-movi"), "did you mean 'mit-movie'?"),
    ],
)
def test_errors_are_said(root: Path, arguments: tuple[str, ...], said: str) -> None:
    fails(run(root, *arguments, stdin=""), said)


def test_wrong_arguments_exit_with_2(root: Path) -> None:
    fails(run(root, "shw"), "did you mean 'show'?", code=2)
    fails(run(root, "score", "--gold", "x"), "--pred", code=2)
    fails(run(root, "sample", "wnut16-demo", "5-shot", "--draw", "0"), "they count from 1", code=2)


def test_outside_the_project_it_says_where_to_go(tmp_path: Path) -> None:
    fails(run(tmp_path, "check"), "run fewtable in the folder that holds the Snakefile")


def test_parse_reads_jsonl(root: Path) -> None:
    rows = [
        {"words": ["good", "thai", "food"], "output": "thai is a cuisine, pizza is a dish."},
        {"words": ["x"], "output": 5},
    ]
    done = run(root, "parse", "instructionner", "--types", "cuisine,dish", stdin="\n".join(map(json.dumps, rows)))
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["entities"] == [[1, 2, "cuisine"]]
    assert first["dropped"][0]["cause"] == "unmatched"
    assert second["entities"] == [] and second["dropped"]
    fails(run(root, "parse", "bio", "--types", "a", stdin='{"words": ["x"]}\n'), "stdin:1", "output")
    fails(run(root, "parse", "bio", "--types", "a", stdin='{"words": "x y", "output": ""}\n'), "no list of strings")


def test_score_prints_json(root: Path, tmp_path: Path) -> None:
    (tmp_path / "gold").write_text("a B-X\nb I-X\nc O\n\nd B-Y\n")
    (tmp_path / "pred").write_text("a B-X\nb I-X\nc B-Y\n\nd O\n")
    files = ("--gold", str(tmp_path / "gold"), "--pred", str(tmp_path / "pred"))
    value = json.loads(run(root, "score", *files).stdout)
    assert (value["tp"], value["fp"], value["fn"], value["f1"]) == (1, 1, 1, 50.0)
    for scorer in ("span", "partial", "conlleval", "seqeval-default", "seqeval-strict", "uniner", "instructuie"):
        assert run(root, "score", *files, "--scorer", scorer).returncode == 0, scorer
    fails(run(root, "score", *files, "--scorer", "conleval"), "did you mean 'conlleval'?")
    (tmp_path / "pred").write_text("a B-X\n")
    fails(run(root, "score", *files), "pred")


def test_prompts_show_what_the_model_sees(root: Path) -> None:
    done = run(root, "prompts", "instructionner", "wnut16-demo", "--split", "train", "--limit", "2")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 2
    assert rows[0]["prompt"].startswith("Sentence: ")
    assert "Options: " in rows[0]["prompt"]
    assert rows[0]["target"].endswith(".")


def test_sample_and_stats_of_the_demo_corpus(root: Path) -> None:
    done = run(root, "sample", "wnut16-demo", "5-shot", "--draw", "2")
    assert done.returncode == 0, done.stderr
    header = json.loads(done.stderr.splitlines()[-1])
    assert set(header["counts"].values()) == {5}
    assert len(done.stdout.splitlines()) == header["sentences"]
    stats = json.loads(run(root, "data", "stats", "wnut16-demo", "--json").stdout)
    assert {s["split"]: s["sentences"] for s in stats["splits"]} == {"train": 1687, "test": 707}


def test_a_closed_pipe_is_no_error(root: Path) -> None:
    command = f"{sys.executable} -m fewtable.cli data list | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=root, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
