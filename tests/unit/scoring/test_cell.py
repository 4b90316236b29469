"""Blocks, cells and comparisons: the way from predictions to a cell."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fewtable.corpus import Entity, EntityType, Sample, Sentence, Task, write_samples, write_sentences
from fewtable.errors import ConfigError, DataError
from fewtable.files import write_json, write_jsonl
from fewtable.formats.base import Dropped, Parsed
from fewtable.predictions import parse_outputs, raw_answers, read_predictions
from fewtable.scoring.block import score_block
from fewtable.scoring.cell import Cell, build_cell
from fewtable.scoring.compare import compare, compare_all, compare_files, compare_mean, load_run
from fewtable.scoring.mentions import Counts
from fewtable.scoring.overlap import boundary_rates
from fewtable.scoring.units import draws_of

KINDS = ("A", "B")
REQUEST = {
    "dataset": "toy",
    "setting": "2-shot",
    "method": "m",
    "backbone": "none",
    "query": "test",
    "blocks": ["1-2", "3-3"],
    "spec": {"train": {}},
    "code": "c",
}
Found = dict[int, dict[str, Parsed]]


def sentences(count: int, seed: int = 0) -> tuple[Sentence, ...]:
    rng = random.Random(seed)
    out = []
    for i in range(count):
        gold = [Entity(s, s + rng.randint(1, 2), rng.choice(KINDS)) for s in (0, 3) if rng.random() < 0.7]
        out.append(Sentence(f"test-{i:06d}", tuple("abcdef"), tuple(gold)))
    return tuple(out)


def predict(tasks: list[Task], share: float, seed: int) -> Found:
    rng = random.Random(seed)
    out: Found = {}
    for task in tasks:
        for s in task.query:
            found = [e if rng.random() < share else Entity(e.start, e.end + 1, e.type) for e in s.entities]
            dropped = (Dropped("unmatched", "x"),) if rng.random() < 0.1 else ()
            out.setdefault(task.draw, {})[s.id] = Parsed(tuple(found), dropped)
    return out


def k_shot(draws: int = 3, count: int = 60) -> list[Task]:
    return [Task(draw, KINDS, (), sentences(count)) for draw in range(1, draws + 1)]


def episodes(count: int = 8) -> list[Task]:
    out = []
    for draw in range(1, count + 1):
        query = tuple(
            Sentence(f"test-{draw * 100 + i:06d}", s.words, s.entities) for i, s in enumerate(sentences(5, draw))
        )
        out.append(Task(draw, KINDS, (), query))
    return out


def samples(tasks: list[Task]) -> list[Sample]:
    header = {"rule": "exact", "short": {}, "data_sha256": {"test": "0" * 64}}
    return [Sample(t.draw, t.types, (), tuple(s.id for s in t.query), header) for t in tasks]


def cell_of(tasks: list[Task], scores: dict[str, Any]) -> Cell:
    return build_cell(REQUEST, samples(tasks), [scores])


def test_block_counts_and_their_sums() -> None:
    tasks = k_shot(2)
    scores = score_block(tasks, predict(tasks, 0.6, 1))
    assert list(scores["draws"]) == ["1", "2"]
    draw = scores["draws"]["1"]
    for place, name in ((2, "tp"), (3, "fp"), (4, "fn")):
        assert sum(row[place] for row in draw["rows"]) == draw["strict"][name]
        assert sum(row[place - 1] for row in draw["span_rows"]) == draw["span"][name]
    near = sum(row[2] for row in draw["near"])
    assert near == draw["boundary"]["boundary"] > 0
    assert draw["partial"]["tp"] == draw["strict"]["tp"] + near / 2
    assert draw["peers"]["conlleval"] == draw["strict"]
    assert set(draw["dropped"]) == {"unmatched"}
    assert all(any(row[2:]) for row in draw["rows"])


def test_order_of_predicted_entities_does_not_matter() -> None:
    tasks = k_shot(1)
    found = predict(tasks, 0.6, 1)
    turned = {1: {i: Parsed(p.entities[::-1], p.dropped) for i, p in reversed(found[1].items())}}
    assert json.dumps(score_block(tasks, found)) == json.dumps(score_block(tasks, turned))


def test_nested_and_repeated_predictions() -> None:
    task = Task(1, KINDS, (), (Sentence("test-000000", tuple("abc"), (Entity(0, 3, "A"), Entity(0, 1, "B"))),))
    found = {1: {"test-000000": Parsed((Entity(0, 1, "B"), Entity(0, 3, "A"), Entity(0, 1, "B")))}}
    draw = score_block([task], found)["draws"]["1"]
    assert draw["strict"] == {"tp": 2, "fp": 0, "fn": 0}
    assert draw["peers"]["conlleval"] == {"tp": 1, "fp": 0, "fn": 0}


def test_missing_surplus_and_outside_predictions_are_named() -> None:
    tasks = k_shot(1, 3)
    found = predict(tasks, 0.5, 1)
    name = "test-000001"
    missing = {1: {i: p for i, p in found[1].items() if i != name}}
    with pytest.raises(DataError, match=f"draw 1: no prediction for '{name}'"):
        score_block(tasks, missing)
    with pytest.raises(DataError, match="no query sentence for 'test-000009'"):
        score_block(tasks, {1: {**found[1], "test-000009": Parsed(())}})
    with pytest.raises(DataError, match="draw 2, which is not in the block"):
        score_block(tasks, {**found, 2: {}})
    outside = {1: {**found[1], name: Parsed((Entity(5, 7, "A"),))}}
    with pytest.raises(DataError, match=rf"\[5, 7, 'A'\] lies outside sentence '{name}'"):
        score_block(tasks, outside)


def test_cell_of_draws_on_the_same_sentences() -> None:
    tasks = k_shot(3)
    found = predict(tasks, 0.6, 1)
    blocks = [score_block(tasks[:2], {d: found[d] for d in (1, 2)}), score_block(tasks[2:], {3: found[3]})]
    cell = build_cell(REQUEST, samples(tasks), blocks)
    f1 = cell.metrics["strict.f1"]
    values = [cell.per_draw[draw]["strict.f1"] for draw in ("1", "2", "3")]
    assert f1.mean == pytest.approx(sum(values) / 3)
    assert f1.sd == pytest.approx((sum((v - f1.mean) ** 2 for v in values) / 2) ** 0.5)
    assert f1.low is not None
    assert f1.high is not None
    assert f1.low < f1.mean < f1.high
    assert f1.n == 3
    strict = [block["draws"][d]["strict"] for block in blocks for d in block["draws"]]
    assert sum(t.tp for t in cell.per_type.values()) == sum(s["tp"] for s in strict)
    types = [block["draws"][d]["types"] for block in blocks for d in block["draws"]]
    macros = [sum(Counts(**c).f1 for c in by_type.values()) / 2 for by_type in types]
    assert cell.metrics["strict.macro_f1"].mean == pytest.approx(sum(macros) / 3)
    assert cell.per_draw["3"]["strict.macro_f1"] == pytest.approx(macros[2])
    assert cell.metrics["strict.macro_f1"].low is None
    assert cell.metrics["episode.f1"].mean == pytest.approx(f1.mean)
    assert cell.metrics["partial.f1"].mean >= f1.mean
    assert cell.metrics["peer.conlleval.f1"].mean == pytest.approx(f1.mean)
    assert cell.metrics["peer.conlleval.f1"].low is None
    assert (cell.run, cell.blocks, cell.flags) == ("results/runs/toy/2-shot/m/none", ("1-2", "3-3"), ())
    assert cell.data == {"test": "0" * 64}
    assert cell.model_dump_json() == build_cell(REQUEST, samples(tasks)[::-1], blocks[::-1]).model_dump_json()


def test_string_scores_of_a_block_count_what_was_dropped() -> None:
    query = (Sentence("test-000000", tuple("abc"), (Entity(0, 1, "A"), Entity(1, 3, "B"))),)
    found = {"test-000000": Parsed((Entity(0, 1, "A"), Entity(2, 3, "B")), (Dropped("unmatched", "z", "A"),))}
    task = Task(1, KINDS, (), query)
    cell = cell_of([task], score_block([task], {1: found}))
    # Two gold strings; predicted: one right, one that shares a word, one that is not there.
    expected = {"strict": 50.0, "peer.uniner": 40.0, "peer.uniner-partial": 60.0, "partial": 75.0}
    assert {name: cell.metrics[f"{name}.f1"].mean for name in expected} == pytest.approx(expected)


def test_uniner_scores_of_a_block_are_of_its_raw_answers(tmp_path: Path) -> None:
    query = (Sentence("test-000000", ("Bo", "left", "Rome"), (Entity(0, 1, "A"), Entity(2, 3, "B"))),)
    task = Task(1, KINDS, (), query)
    rows = [{"draw": 1, "id": "test-000000", "output": ["['Bo']", ' ["Rome"]']}]
    write_jsonl(tmp_path / "outputs.jsonl", rows)
    types = [EntityType(kind, kind, "") for kind in KINDS]
    files = tmp_path / "outputs.jsonl", tmp_path / "predictions.jsonl"
    for query_kind, expected in (("type", {"tp": 1, "fp": 0, "fn": 1}), ("all", {"tp": 0, "fp": 0, "fn": 2})):
        options = {"name": "uniner", "query": query_kind}
        parse_outputs(files[0], [task], options, types, files[1])
        answers = raw_answers(files[0], [task], options, types)
        draw = score_block([task], read_predictions(files[1]), answers)["draws"]["1"]
        assert draw["peers"]["uniner"] == draw["peers"]["uniner-partial"] == expected
        assert draw["strict"]["tp"] == (2 if query_kind == "type" else 0)
        assert (answers[1]["test-000000"] is None) == (query_kind == "all")


def test_f1_with_unmatched_answers_and_f1_without_empty_sentences() -> None:
    """Two right and one wrong in the sentences with gold, one wrong in the other, one answer without its words."""
    query = (
        Sentence("test-000000", tuple("abc"), (Entity(0, 1, "A"), Entity(2, 3, "B"))),
        Sentence("test-000001", ("d",)),
        Sentence("test-000002", ("e",), (Entity(0, 1, "A"),)),
    )
    lost = (Dropped("unmatched", "x is an A"), Dropped("surplus", "a is an A"))
    found = {
        "test-000000": Parsed((Entity(0, 1, "A"), Entity(2, 3, "A")), lost),
        "test-000001": Parsed((Entity(0, 1, "B"),)),
        "test-000002": Parsed((Entity(0, 1, "A"),)),
    }
    nothing = {name: Parsed(()) for name in found}
    tasks = [Task(1, KINDS, (), query), Task(2, KINDS, (), query)]
    cell = cell_of(tasks, score_block(tasks, {1: found, 2: nothing}))
    expected = {"strict": 400 / 7, "strict_halluc": 400 / 8, "strict_nonempty": 400 / 6}
    assert {name: cell.per_draw["1"][f"{name}.f1"] for name in expected} == pytest.approx(expected)
    assert {name: cell.metrics[f"{name}.f1"].mean for name in expected} == pytest.approx(
        {name: value / 2 for name, value in expected.items()}
    )
    assert cell.metrics["strict_halluc.f1"].low is None
    other = Task(2, KINDS, (), tuple(replace(s, id=s.id.replace("00000", "00001")) for s in query))
    empty = {s.id: Parsed(()) for s in other.query}
    pooled = cell_of([tasks[0], other], score_block([tasks[0], other], {1: found, 2: empty}))
    assert pooled.metrics["strict_halluc.f1"].mean == pytest.approx(400 / 11)
    assert pooled.metrics["strict_nonempty.f1"].mean == pytest.approx(400 / 9)


def test_cell_of_one_draw_has_no_sd_but_an_interval() -> None:
    tasks = k_shot(1)
    f1 = cell_of(tasks, score_block(tasks, predict(tasks, 0.6, 1))).metrics["strict.f1"]
    assert f1.sd is None
    assert f1.low is not None


def test_cell_of_episodes_sums_counts() -> None:
    tasks = episodes()
    tasks.append(Task(9, KINDS, (), (Sentence("test-009999", ("a",)),)))
    scores = score_block(tasks, predict(tasks, 0.6, 1))
    cell = cell_of(tasks, scores)
    total = {n: sum(d["strict"][n] for d in scores["draws"].values()) for n in ("tp", "fp", "fn")}
    pooled = 200 * total["tp"] / (2 * total["tp"] + total["fp"] + total["fn"])
    assert cell.metrics["strict.f1"].mean == pytest.approx(pooled)
    assert cell.metrics["strict.f1"].sd is None
    assert cell.metrics["strict.macro_f1"].mean == pytest.approx(sum(t.f1 for t in cell.per_type.values()) / 2)
    mean = (sum(d["strict.f1"] for d in cell.per_draw.values()) + 100) / 9
    assert cell.metrics["episode.f1"].mean == pytest.approx(mean)
    assert cell.metrics["episode.f1"].low is not None
    assert cell.metrics["peer.conlleval.f1"].mean == pytest.approx(pooled)
    assert cell.flags == ("episodes", "empty-episodes:1")


def test_cell_without_a_hit_has_no_boundary_rate() -> None:
    tasks = k_shot(1, 5)
    cell = cell_of(tasks, score_block(tasks, {1: {s.id: Parsed(()) for s in tasks[0].query}}))
    assert cell.metrics["strict.f1"].mean == 0.0
    assert "boundary.ber" not in cell.metrics and "boundary.ber_pred" not in cell.metrics
    assert cell.metrics["boundary.ber_gold"].mean == 0.0


@pytest.mark.parametrize("tasks", [k_shot(3), episodes()], ids=["k-shot", "episodes"])
def test_boundary_errors_of_a_cell_are_sums_and_rates_of_its_counts(tasks: list[Task]) -> None:
    found = predict(tasks, 0.5, 1)
    for draw in found.values():  # of wrong edges some with the wrong type too, which count without types alone
        for name, parsed in list(draw.items())[::3]:
            turned = (e._replace(type=KINDS[e.type == "A"]) for e in parsed.entities)
            draw[name] = Parsed(tuple(turned), parsed.dropped)
    scores = score_block(tasks, found)
    draws = [draw["boundary"] for draw in scores["draws"].values()]
    assert sum(draw["blind"]["boundary"] for draw in draws) > sum(draw["boundary"] for draw in draws)
    cell = cell_of(tasks, scores)
    for kind in ("exact", "boundary", "spurious", "gold", "over", "under", "shift", "merge", "split"):
        assert cell.boundary[kind] == sum(draw[kind] for draw in draws)
        assert cell.boundary["blind"][kind] == sum(draw["blind"][kind] for draw in draws)
    assert cell.boundary["right"] == {"1": cell.boundary["over"]} and cell.boundary["over"] > 0
    sums = [cell.boundary] if "episodes" in cell.flags else draws
    for name in ("ber", "ber_pred", "ber_gold"):
        found = cell.metrics[f"boundary.{name}"]
        rates = [rate for part in sums if (rate := boundary_rates(part)[name]) is not None]
        assert found.mean == pytest.approx(sum(rates) / len(rates))
        assert found.low is not None and found.high is not None and found.low < found.mean < found.high
    blind = [rate for part in sums if (rate := boundary_rates(part["blind"])["ber"]) is not None]
    assert cell.metrics["boundary.ber_blind"].mean == pytest.approx(sum(blind) / len(blind))


def test_cell_checks_its_draws() -> None:
    tasks = k_shot(2)
    scores = score_block(tasks, predict(tasks, 0.6, 1))
    with pytest.raises(DataError, match=r"samples hold draws \[1\], the scores \[1, 2\]"):
        build_cell(REQUEST, samples(tasks[:1]), [scores])
    with pytest.raises(DataError, match="draw 1 occurs in two"):
        build_cell(REQUEST, samples(tasks), [scores, scores])
    with pytest.raises(DataError, match="not of 'fewtable/4'"):
        build_cell(REQUEST, samples(tasks), [{**scores, "scorer": "fewtable/0"}])


def test_compare_equal_and_unequal_runs() -> None:
    tasks = k_shot(3)
    weak, good = (draws_of([score_block(tasks, predict(tasks, share, 1))]) for share in (0.4, 0.8))
    same = compare(good, good, resamples=500)
    assert (same["difference"], same["p"], same["p_draws"], same["low"], same["high"]) == (0, 1, 1, 0, 0)
    better = compare(good, weak, resamples=999)
    assert better["difference"] > 10
    assert better["p"] == 1 / 1000
    assert better["p_draws"] == better["p_draws_least"] == 0.25
    assert 0 < better["low"] < better["difference"] < better["high"]
    assert better["unit"] == "sentence"
    assert better == compare(good, weak, resamples=999)
    edges = compare(good, weak, "boundary.ber", resamples=500)
    assert edges["difference"] < 0
    assert edges["relative"] == pytest.approx(100 * edges["difference"] / edges["b"])
    assert edges["relative_low"] < edges["relative"] < edges["relative_high"] < 0
    family = compare_all([[(good, weak)], [(good, good)]], resamples=999)
    assert [result["p_holm"] for result in family] == [2 / 1000, 1.0]


def test_compare_by_the_mean_of_columns() -> None:
    runs = []
    for tasks in (k_shot(2), episodes(12)):
        runs.append([draws_of([score_block(tasks, predict(tasks, share, 1))]) for share in (0.8, 0.5)])
    apart = [compare(good, weak, resamples=999) for good, weak in runs]
    mean = compare_mean([(good, weak) for good, weak in runs], resamples=999)
    for name in ("a", "b", "difference"):
        assert mean[name] == pytest.approx((apart[0][name] + apart[1][name]) / 2)
    assert mean["low"] < mean["difference"] < mean["high"]
    assert mean["high"] - mean["low"] < max(one["high"] - one["low"] for one in apart)
    assert mean["relative"] == pytest.approx(100 * mean["difference"] / mean["b"]) and mean["p"] == 1 / 1000
    same = compare_mean([(weak, weak) for _, weak in runs], "boundary.ber", resamples=99)
    assert (same["difference"], same["p"], same["low"], same["relative"]) == (0, 1, 0, 0)
    opposite = compare_mean([runs[0][:2], runs[0][::-1]], resamples=999)
    assert opposite["difference"] == pytest.approx(0) and opposite["p"] > 0.9
    family = compare_all([[runs[0]], runs], resamples=999)
    assert family[0]["a"] == apart[0]["a"] and family[1]["a"] == mean["a"] and family[1]["p_holm"] >= mean["p"]
    tasks = k_shot(1, 5)
    blank = draws_of([score_block(tasks, {1: {s.id: Parsed(()) for s in tasks[0].query}})])
    with pytest.raises(DataError, match="undefined in a column"):
        compare_mean([(blank, blank)], "boundary.ber", resamples=9)


def test_compare_episodes() -> None:
    tasks = episodes(12)
    a, b = (draws_of([score_block(tasks, predict(tasks, share, 1))]) for share in (0.8, 0.3))
    result = compare(a, b, resamples=999)
    assert (result["unit"], result["units"]) == ("episode", 12)
    assert result["p"] < 0.05
    mean = compare(a, b, "episode.f1", resamples=999)
    values = [
        [200 * d["strict"]["tp"] / (2 * d["strict"]["tp"] + d["strict"]["fp"] + d["strict"]["fn"]) for d in r.values()]
        for r in (a, b)
    ]
    assert mean["a"] == pytest.approx(sum(values[0]) / 12)
    assert mean["b"] == pytest.approx(sum(values[1]) / 12)
    assert mean["p"] < 0.05


def test_compare_refuses_what_cannot_be_paired() -> None:
    tasks = k_shot(2)
    run = draws_of([score_block(tasks, predict(tasks, 0.6, 1))])
    with pytest.raises(DataError, match=r"different draws: \[1, 2\] and \[1\]"):
        compare(run, {1: run[1]})
    fewer = [Task(t.draw, t.types, (), t.query[1:]) for t in tasks]
    with pytest.raises(DataError, match="draw 1: 1 sentences are in one run only, first 'test-000000'"):
        compare(run, draws_of([score_block(fewer, predict(fewer, 0.6, 1))]))
    other = [Task(t.draw, t.types, (), sentences(60, seed=5)) for t in tasks]
    with pytest.raises(DataError, match="different gold"):
        compare(run, draws_of([score_block(other, predict(other, 0.6, 1))]))
    with pytest.raises(ConfigError, match="unknown metric") as error:
        compare(run, run, "strict.f2")
    assert error.value.fix == "did you mean 'strict.f1'?"
    with pytest.raises(ConfigError, match="compares episodes"):
        compare(run, run, "episode.f1")


def test_the_scripts_and_comparison_by_files(tmp_path: Path, root: Path) -> None:
    tasks = k_shot(3, 20)
    write_sentences(tmp_path / "results/data/toy/test.jsonl", tasks[0].query)
    drawn = samples(tasks)
    blocks = {"1-2": drawn[:2], "3-3": drawn[2:]}
    paths: dict[str, list[str]] = {"scores": [], "samples": []}
    found = predict(tasks, 0.6, 1)
    run = tmp_path / "results/runs/toy/2-shot/m/none"
    for block, part in blocks.items():
        sample = tmp_path / "results/samples/toy/2-shot" / f"{block}.jsonl"
        write_samples(sample, part)
        rows = [{"draw": s.draw, "id": i, "output": found[s.draw][i].entities} for s in part for i in s.query]
        write_jsonl(run / block / "outputs.test.jsonl", rows)
        scores = run / block / "scores.test.json"
        spec = {"format": {"name": "spans"}, "types": {name: {} for name in part[0].types}}
        arguments = [f"--spec={json.dumps(spec)}", f"--samples={sample}"]
        arguments += [f"--data={tmp_path / 'results/data/toy/test.jsonl'}", f"--scores={scores}"]
        arguments += [f"--outputs={run / block / 'outputs.test.jsonl'}"]
        arguments += [f"--predictions={run / block / 'predictions.test.jsonl'}"]
        assert "scored" in script(root, "score", arguments)
        paths["scores"].append(str(scores))
        paths["samples"].append(str(sample))
    target = tmp_path / "results/cells/toy/2-shot/m/none.json"
    arguments = ["--spec", json.dumps(REQUEST), "--output", str(target)]
    arguments += ["--scores", *paths["scores"], "--samples", *paths["samples"]]
    assert "put 3 draws together" in script(root, "cell", arguments)
    first = target.read_bytes()
    script(root, "cell", arguments)
    assert target.read_bytes() == first
    Cell.model_validate_json(first)
    assert list(load_run(target)) == [1, 2, 3]
    assert compare_files(target, target, resamples=50)["p"] == 1.0
    with pytest.raises(DataError, match="different draws"):
        compare_files(target, Path(paths["scores"][0]), resamples=50)
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(DataError, match="neither a cell nor a scores file"):
        load_run(tmp_path / "x.json")


def script(root: Path, name: str, arguments: list[str]) -> str:
    command = [sys.executable, str(root / f"workflow/scripts/{name}.py"), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stderr
