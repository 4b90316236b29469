"""The same draw in any order, process and PYTHONHASHSEED; the query; the block; the settings in config/."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from pydantic import ValidationError
from sampling_corpora import corpus, setting

from fewtable.corpus import Sample, Sentence, build_tasks, read_samples, write_samples, write_sentences
from fewtable.errors import ConfigError, DataError
from fewtable.files import sha256_file
from fewtable.registry import Registry
from fewtable.sampling import draw, draw_all, draw_block, read_sample_spec
from fewtable.specs import DrawSpec, QuerySpec, SamplerSpec, SampleSpec

TYPES = ("a", "b", "c", "d")


def sentences(split: str, size: int = 120) -> list[Sentence]:
    rng = Random(size)
    return corpus([{t: rng.randint(1, 2) for t in rng.sample(TYPES, rng.randrange(4))} for _ in range(size)], split)


SPECS: dict[str, DrawSpec] = {
    **{rule: setting(rule, k=5) for rule in ("greedy", "greedy-prune", "capped", "exact", "per-type")},
    "all": setting("all"),
    "none": setting("none"),
    "episodes": setting("episodes", "test", n_way=3, k=2, q=2),
    "mini-including": setting("mini-including", "test", k=2, q=9),
}


def one(rule: str, number: int = 1, shuffle: int | None = None) -> Sample:
    spec = SPECS[rule]
    support, query = sentences(spec.support), sentences("test")
    types = list(TYPES)
    if shuffle is not None:
        for some in (support, query, types):
            Random(shuffle).shuffle(some)  # type: ignore[arg-type]
    return draw(spec, "toy", types, support, query, number)


@pytest.mark.parametrize("rule", SPECS)
def test_the_order_of_the_input_does_not_matter(rule: str) -> None:
    plain, shuffled = one(rule), one(rule, shuffle=3)
    assert (plain.support, plain.query, plain.header) == (shuffled.support, shuffled.query, shuffled.header)
    assert set(plain.types) == set(shuffled.types)


@pytest.mark.parametrize("rule", sorted(set(SPECS) - {"all", "none"}))
def test_another_draw_is_another_sample(rule: str) -> None:
    assert len({one(rule, number).support for number in range(1, 6)}) > 1


def test_the_same_draws_in_processes_of_different_hash_seeds() -> None:
    code = (
        "import test_sampling_repeats as t; from fewtable.files import digest\n"
        "print(digest([[s.draw, s.types, s.support, s.query, s.header] for s in map(t.one, sorted(t.SPECS))]))"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(answers) == 1


def test_a_draw_does_not_depend_on_the_block_it_is_in() -> None:
    for rule, spec in SPECS.items():
        args = ("toy", TYPES, sentences(spec.support), sentences("test"))
        assert draw_all(spec, *args, [1, 2, 3])[2] == draw(spec, *args, 3), rule


def test_the_support_does_not_depend_on_the_query_limit_and_limits_are_nested() -> None:
    args = ("toy", TYPES, sentences("train"), sentences("test"))
    whole, large, small = (draw(setting("exact", limit=n, k=5), *args, 1) for n in (None, 30, 10))
    assert whole.support == large.support == small.support
    assert len(whole.query) == 120
    assert (len(large.query), len(small.query)) == (30, 10)
    assert set(small.query) < set(large.query) < set(whole.query)
    assert draw(setting("exact", limit=10, k=5), *args, 2).query == small.query


def test_a_limit_of_pairs_draws_whole_sentences_by_the_number_of_types() -> None:
    args = ("toy", TYPES, sentences("train"), sentences("test"))

    def asked(**query: int) -> tuple[str, ...]:
        return draw(DrawSpec(sampler=SamplerSpec(rule="none"), query=QuerySpec(**query)), *args, 1).query

    assert asked(pairs=4 * 120) == asked() and len(asked()) == 120
    assert asked(pairs=4 * 30 + 2) == asked(limit=30), "four types; the sentences of a limit"
    assert asked(pairs=1) == asked(limit=1), "one sentence at least"
    assert asked(pairs=4 * 30, limit=10) == asked(limit=10)


def test_all_takes_everything_and_none_nothing() -> None:
    everything, nothing = one("all"), one("none")
    assert len(everything.support) == 120
    assert everything.header["short"] == everything.header["over"] == {}
    assert nothing.support == ()
    assert nothing.header["sentences"] == 0
    assert nothing.query == everything.query
    assert nothing.types == TYPES


def write_data(folder: Path) -> None:
    for split in ("train", "test"):
        write_sentences(folder / f"{split}.jsonl", sentences(split))


def block(rule: str, *draws: int, asked: bool = True) -> SampleSpec:
    return SampleSpec(dataset="toy", setting=SPECS[rule], types=TYPES, draws=draws, asked=asked)


def test_a_block_reads_the_data_and_names_its_digests(tmp_path: Path) -> None:
    write_data(tmp_path)
    samples = draw_block(block("exact", 1, 2), tmp_path)
    assert [s.draw for s in samples] == [1, 2]
    assert samples[0].support == one("exact").support
    digests = {split: sha256_file(tmp_path / f"{split}.jsonl") for split in ("train", "test")}
    assert samples[0].header["data_sha256"] == digests
    write_samples(tmp_path / "1-2.jsonl", samples)
    assert read_samples(tmp_path / "1-2.jsonl") == samples
    task = build_tasks(samples, {split: tmp_path / f"{split}.jsonl" for split in digests})[0]
    assert len(task.support) == samples[0].header["sentences"]


def test_zero_shot_needs_no_training_split(tmp_path: Path) -> None:
    write_sentences(tmp_path / "test.jsonl", sentences("test"))
    (sample,) = draw_block(block("none", 1), tmp_path)
    assert list(sample.header["data_sha256"]) == ["test"]
    with pytest.raises(DataError, match="file not found"):
        draw_block(block("exact", 1), tmp_path)
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(DataError, match="no sentences"):
        draw_block(block("exact", 1), tmp_path)


def test_what_is_only_learned_needs_no_query(tmp_path: Path) -> None:
    write_sentences(tmp_path / "train.jsonl", sentences("train"))
    (sample,) = draw_block(block("exact", 1, asked=False), tmp_path)
    assert sample.support == one("exact").support and sample.query == ()
    with pytest.raises(DataError, match="file not found"):
        draw_block(block("exact", 1), tmp_path)


def test_the_script_draws_a_block(tmp_path: Path, root: Path) -> None:
    write_data(tmp_path)
    spec = {
        "dataset": "toy",
        "setting": SPECS["exact"].model_dump(mode="json"),
        "types": TYPES,
        "draws": [1, 2],
    }
    assert read_sample_spec(json.dumps(spec)).setting == SPECS["exact"]
    output = tmp_path / "1-2.jsonl"
    command = [sys.executable, str(root / "workflow/scripts/sample.py"), "--spec", json.dumps(spec)]
    folders = ["--data", str(tmp_path), "--raw", str(tmp_path)]
    ended = subprocess.run([*command, *folders, "--output", str(output)], capture_output=True, text=True, check=True)
    assert read_samples(output)[0].support == one("exact").support
    assert "2 samples of toy by 'exact'" in ended.stderr


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"sampler": {"rule": "exact"}}, "needs 'k'"),
        ({"sampler": {"rule": "episodes", "k": 1, "n_way": 5}}, "needs 'q'"),
        ({"sampler": {"rule": "all", "k": 1}}, "takes no 'k'"),
        ({"sampler": {"rule": "greedy", "k": 1}, "support": "test"}, "same split"),
        ({"sampler": {"rule": "mini-including", "k": 1, "q": 5}, "query": {"limit": 5}}, "query.limit"),
        ({"sampler": {"rule": "mini-including", "k": 1, "q": 5}, "query": {"pairs": 5}}, "query.pairs"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(value: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DrawSpec.model_validate(value)


def test_an_unknown_key_of_a_sampling_job_is_refused() -> None:
    with pytest.raises(ConfigError):
        read_sample_spec('{"dataset": "d", "setting": {"sampler": {"rule": "none"}}, "types": [], "drawz": []}')


def test_every_setting_in_config_is_valid(root: Path) -> None:
    registry = Registry(root / "config")
    names = registry.names("settings")
    assert {"full", "zero-shot", "50-shot", "5-shot-300", "5-way-1-shot", "hou-5-shot"} <= set(names)
    for name in names:
        registry.setting(name)
    assert registry.setting("10-shot-300").sampler == registry.setting("10-shot").sampler
