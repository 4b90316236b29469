"""A corpus's passages as files: counts that add up, one result whatever the order, atomic, in flat memory."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewtable.errors import ConfigError, DataError
from fewtable.passages.build import CAUSES, build, counter, read_passages_job, write
from fewtable.passages.count import words
from fewtable.passages.spec import PassagesSpec

PEOPLE = ("The old teacher", "My neighbour", "A young doctor", "The tall woman", "Our friend", "The mayor")
DEEDS = ("opened the window", "read a long letter", "walked to the market", "wrote a book", "lost the keys")
PLACES = ("in the small town", "near the river", "before the storm", "after the war", "at the station")
SENTENCES = [f"{p} {d} {w} and then went home." for p in PEOPLE for d in DEEDS for w in PLACES]
GERMAN = "Der Ausschuss traf sich am Freitag in Genf, um über die neuen Regeln zu reden."


def corpus(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def spec(path: Path, **options: Any) -> PassagesSpec:
    value = {"sources": [{"file": {"path": str(path)}}], "tokens": "words", "max_tokens": 32, **options}
    return PassagesSpec.model_validate(value)


def test_what_is_left_out_is_counted_by_cause(tmp_path: Path) -> None:
    path = corpus(tmp_path / "a.jsonl", [*SENTENCES, *SENTENCES[:7], GERMAN, "Too short.", "word " * 40])
    kept, tally = build(spec(path), tmp_path, words)
    assert tally == {
        "documents": 160,
        "passages": 161,
        "cut_hard": 1,
        "too_short": 1,
        "not_english": tally["not_english"],
        "duplicate": 7,
        "not_drawn": 0,
        "kept": len(kept),
        "tokens": sum(p.tokens for p in kept),
    }
    assert {p.text for p in kept} >= set(SENTENCES) and GERMAN not in {p.text for p in kept}
    assert tally["passages"] == sum(tally[cause] for cause in CAUSES) + tally["kept"]
    assert GERMAN in {p.text for p in build(spec(path, english=False), tmp_path, words)[0]}


def test_a_draw_counts_all_and_keeps_its_beginning(tmp_path: Path) -> None:
    path = corpus(tmp_path / "a.jsonl", SENTENCES)
    small, tally = build(spec(path, passages=20), tmp_path, words)
    large, _ = build(spec(path, passages=60), tmp_path, words)
    assert tally["passages"] == 150 == sum(tally[cause] for cause in CAUSES) + 20
    assert large[:20] == small
    assert build(spec(path, passages=20, seed=2), tmp_path, words)[0] != small


def test_the_order_of_sources_and_documents_does_not_count(tmp_path: Path) -> None:
    mixed = [*SENTENCES, GERMAN]
    random.Random(3).shuffle(mixed)
    first = corpus(tmp_path / "a.jsonl", [*SENTENCES, GERMAN])
    second = corpus(tmp_path / "b.jsonl", mixed)
    drawn = build(spec(first, passages=30), tmp_path, words)[0]
    assert build(spec(second, passages=30), tmp_path, words)[0] == drawn


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    path = corpus(tmp_path / "a.jsonl", [GERMAN, "Too short."])
    with pytest.raises(DataError, match="no passage is left of 2 documents: 1 too short, 1 not english, 0 duplicate"):
        build(spec(path), tmp_path, words)


def test_the_counting_backbone_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'tiny-llama' counts the tokens, and its folder is not given"):
        counter(spec(tmp_path, tokens="tiny-llama"), None)


def peak(make: Callable[[], object]) -> int:
    tracemalloc.start()
    make()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    def path(count: int) -> Path:
        texts = (f"Document {i}. {SENTENCES[i % 150]} {SENTENCES[i * 7 % 150]}" for i in range(count))
        return corpus(tmp_path / f"{count}.jsonl", list(texts))

    short, long = path(3000), path(15000)
    options: dict[str, Any] = {"passages": 100, "english": False, "min_tokens": 1}
    small = peak(lambda: build(spec(short, **options), tmp_path, words))
    large = peak(lambda: build(spec(long, **options), tmp_path, words))
    assert large < 1.5 * small, f"{small:,} bytes of 3,000 documents, {large:,} of 15,000"


# --- the script -------------------------------------------------------------------------------------


def command(root: Path, tmp_path: Path, made: PassagesSpec) -> list[str]:
    script = str(root / "workflow" / "scripts" / "passages.py")
    target = str(tmp_path / "out" / "mine.jsonl")
    return [sys.executable, script, "--spec", made.model_dump_json(), "--data", str(tmp_path), "--output", target]


def test_the_script_gives_the_same_bytes_again(root: Path, tmp_path: Path) -> None:
    path = corpus(tmp_path / "a.jsonl", SENTENCES)
    found = []
    for hash_seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        arguments = command(root, tmp_path, spec(path, passages=50))
        done = subprocess.run([*arguments, "--backbone"], env=environment, capture_output=True, text=True, check=True)
        assert "drew 50 of 150 passages from 150 documents in " in done.stderr
        found.append([(f.name, f.read_bytes()) for f in sorted((tmp_path / "out").iterdir())])
    assert found[0] == found[1]
    assert [name for name, _ in found[0]] == ["mine.jsonl", "mine.summary.json"]
    rows = [json.loads(line) for line in found[0][0][1].splitlines()]
    assert [row["id"] for row in rows] == [f"passage-{i:06d}" for i in range(50)]
    assert all(row["text"] in SENTENCES and row["tokens"] == len(row["text"].split()) for row in rows)


def test_an_error_is_told_without_a_traceback_and_leaves_nothing(root: Path, tmp_path: Path) -> None:
    path = corpus(tmp_path / "a.jsonl", SENTENCES)
    with path.open("a") as stream:
        stream.write('{"text": \n')
    done = subprocess.run(command(root, tmp_path, spec(path)), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {path}:151: not JSON") and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_killed_it_leaves_nothing_under_its_name(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    os.mkfifo(path)  # a source that never ends
    running = subprocess.Popen(command(root, tmp_path, spec(path)), stderr=subprocess.DEVNULL)
    with path.open("w") as stream:
        stream.write("".join(json.dumps({"text": text}) + "\n" for text in SENTENCES * 20))
        stream.flush()
        time.sleep(0.5)
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
    assert not list(tmp_path.glob("out/*"))


def test_an_interrupted_write_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passages, tally = build(spec(corpus(tmp_path / "a.jsonl", SENTENCES)), tmp_path, words)
    target = tmp_path / "mine.jsonl"
    write(target, passages[:3], tally)
    before = target.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write(target, passages, tally)
    assert target.read_bytes() == before
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a.jsonl", "mine.jsonl", "mine.summary.json"]


def test_a_misspelt_key_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        read_passages_job('{"sources": [{"file": {"path": "a", "colum": "b"}}], "tokens": "words"}')
    assert caught.value.where == "--spec:sources.0.file.colum"
    assert caught.value.fix == "did you mean 'column'?"
