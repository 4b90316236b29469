"""Episodes pooled into one sample, and query sentences that are asked about some types only."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sampling_corpora import corpus, mentions, setting

from fewtable.corpus import EntityType, Sample, Task, build_tasks, read_samples, write_samples, write_sentences
from fewtable.data.episodes import official_draws
from fewtable.data.normalise import normalise
from fewtable.errors import ConfigError, DataError
from fewtable.families._text import queries
from fewtable.files import write_jsonl
from fewtable.plan import Plan
from fewtable.predictions import formats_of, make_format, parse_outputs, raw_answers, read_predictions
from fewtable.registry import Registry
from fewtable.resolve import Run, resolve
from fewtable.sampling import draw_all
from fewtable.specs import DatasetSpec, RunSpec, SamplerSpec, SampleSpec, SettingSpec, UserConfig

TYPES = ("b", "a", "c", "d")
"""In the dataset's order, which is not that of the alphabet."""
ROWS = [{"a": 1}, {"b": 1}, {"a": 1, "b": 1}, {"c": 1}, {"c": 2}, {"d": 1}, {"a": 1, "d": 1}, {}] * 4
FEW = {"rule": "episodes", "n_way": 2, "k": 1, "q": 1}


def pools(size: int, draws: range = range(1, 2), **sampler: Any) -> tuple[list[Sample], list[Sample]]:
    """The episodes of the plain setting, and the pooled draws."""
    options = {**FEW, **sampler}
    rule = str(options.pop("rule"))
    sentences = corpus(ROWS, "test")
    plain = setting(rule, "test", **options)
    many = draw_all(plain, "d", TYPES, sentences, [], range(1, size * len(draws) + 1))
    return many, draw_all(setting(rule, "test", pool=size, **options), "d", TYPES, sentences, [], draws)


@pytest.mark.parametrize("rule", [FEW, {"rule": "mini-including", "k": 1, "q": 6, "n_way": None}], ids=["few", "hou"])
def test_pooled_is_what_the_first_episodes_hold(rule: dict[str, Any]) -> None:
    episodes, [one] = pools(5, **rule)
    assert set(one.support) == {name for e in episodes for name in e.support}
    sentences = corpus(ROWS, "test")
    with_entities = {s.id for s in sentences if s.entities}
    assert set(one.query) == {name for e in episodes for name in e.query} & with_entities
    assert list(one.support) == sorted(set(one.support)) and list(one.query) == sorted(set(one.query))
    held = {s.id: {e.type for e in s.entities} for s in sentences}
    assert [set(names) for names in one.asked] == [held[name] & set(one.types) for name in one.query]
    assert all(one.asked) and all(list(names) == [t for t in TYPES if t in names] for names in one.asked)
    assert one.types == tuple(t for t in TYPES if any(t in e.types for e in episodes))
    assert one.header["counts"] == {t: mentions(sentences, one.support)[t] for t in one.types}
    assert one.header["in_support"] == len(set(one.query) & set(one.support))
    assert one.header["rule"].endswith(", 5 pooled") and one.header["short"] == one.header["over"] == {}


def test_the_next_draw_pools_the_next_episodes() -> None:
    episodes, samples = pools(3, range(1, 4))
    for sample, start in zip(samples, (0, 3, 6), strict=True):
        assert set(sample.support) == {name for e in episodes[start : start + 3] for name in e.support}
    assert samples[1:2] == pools(3, range(2, 3))[1]


def test_what_is_asked_is_written_and_read(tmp_path: Path) -> None:
    _, [one] = pools(4)
    write_samples(tmp_path / "s.jsonl", [one])
    assert read_samples(tmp_path / "s.jsonl") == [one]
    write_sentences(tmp_path / "test.jsonl", corpus(ROWS, "test"))
    [task] = build_tasks([one], {"test": tmp_path / "test.jsonl"})
    assert task.asked == one.asked
    assert all(set(names) == {e.type for e in s.entities} for names, s in zip(task.asked, task.query, strict=True))
    plain = draw_all(setting(support="test", **FEW), "d", TYPES, corpus(ROWS, "test"), [], [1])
    write_samples(tmp_path / "p.jsonl", plain)
    assert "asked" not in (tmp_path / "p.jsonl").read_text() and build_tasks(plain, {"test": tmp_path / "test.jsonl"})


def official(folder: Path, episodes: int) -> tuple[SampleSpec, DatasetSpec, Path]:
    def part(*words: str) -> dict[str, list[list[str]]]:
        return {"word": [[w, "."] for w in words], "label": [[w[0], "O"] for w in words]}

    rows = [
        {"types": ["a", "b"], "support": part(f"a{i}", "b0"), "query": part(f"a{i + 1}", f"b{i}")}
        for i in range(episodes)
    ]
    write_jsonl(folder / "test_2_1.jsonl", rows)
    types = {name: {"words": name, "definition": "d"} for name in ("b", "a")}
    dataset = DatasetSpec.model_validate(
        {"title": "T", "domain": "d", "licence": "none", "reader": "fewnerd-episodes", "types": types}
        | {"files": {"test_2_1.jsonl": {}}, "splits": {"test": {"files": ["test_2_1.jsonl"]}}}
    )
    data = folder / "test.jsonl"
    write_sentences(data, normalise("d", dataset, "test", {"test_2_1.jsonl": folder / "test_2_1.jsonl"}))
    pooled = setting("official", "test", pool=3)
    return SampleSpec(dataset="d", setting=pooled, types=("b", "a"), draws=(1,)), dataset, data


def test_official_episodes_are_pooled_too(tmp_path: Path) -> None:
    spec, dataset, data = official(tmp_path, 5)
    [one] = official_draws(spec, dataset, data, tmp_path)
    [task] = build_tasks([one], {"test": data})
    assert [s.words[0] for s in task.support] == ["a0", "b0", "a1", "a2"]
    assert sorted(s.words[0] for s in task.query) == ["a1", "a2", "a3", "b0", "b1", "b2"]
    assert task.asked == tuple((s.words[0][0],) for s in task.query) and one.types == ("b", "a")
    assert one.header["in_support"] == 3 and "test" in one.header["data_sha256"]
    with pytest.raises(DataError, match="2 episodes in the release, 3 are to be pooled"):
        official_draws(*official(tmp_path, 2), tmp_path)


def test_a_setting_that_pools_is_one_of_episodes_and_says_what_it_tells() -> None:
    with pytest.raises(ValidationError, match="'pool' is for episodes"):
        SamplerSpec(rule="exact", k=5, pool=3)
    value = {"title": "T", "sampler": {**FEW, "pool": 3}, "support": "test"}
    with pytest.raises(ValidationError, match="say so under 'oracle'"):
        SettingSpec.model_validate(value)
    assert SettingSpec.model_validate({**value, "oracle": "Asks about present types alone."}).episodic


FORM = {"name": "uniner", "query": "type"}


def asked_task() -> Task:
    sentences = corpus([{"a": 1, "c": 1}, {"b": 1}], "test")
    return Task(1, TYPES, (), tuple(sentences), (("a", "c"), ("b",)))


def test_each_sentence_is_asked_about_its_types_and_parsed_so(tmp_path: Path) -> None:
    task = asked_task()
    spec = RunSpec(
        dataset="d", setting="s", method="m", backbone="b", draws=(1,), types={n: {"words": n} for n in TYPES},
        family="causal", format=FORM, train={}, dtype="float32", code="",
    )  # fmt: skip
    asked = [[query.prompt for query in of_one] for of_one in queries(spec, task)]
    assert [[prompt.split()[2] for prompt in prompts] for prompts in asked] == [["a", "c"], ["b"]]
    assert [len(of_one) for of_one in queries(spec, Task(1, TYPES, (), task.query))] == [4, 4]
    outputs = [['["A"]', '["C"]'], ['["B"]']]
    rows = [{"draw": 1, "id": s.id, "output": o} for s, o in zip(task.query, outputs, strict=True)]
    write_jsonl(tmp_path / "o.jsonl", rows)
    types = [EntityType(name, name, "") for name in TYPES]
    parse_outputs(tmp_path / "o.jsonl", [task], FORM, types, tmp_path / "p.jsonl")
    found = read_predictions(tmp_path / "p.jsonl")[1]
    assert [found[s.id].entities for s in task.query] == [s.entities for s in task.query]
    assert not any(parsed.dropped for parsed in found.values())
    answers = raw_answers(tmp_path / "o.jsonl", [task], FORM, types)[1]
    assert answers[task.query[0].id] == {"a": '["A"]', "c": '["C"]'}


def test_one_format_serves_all_sentences_with_the_same_types() -> None:
    made: list[tuple[str, ...]] = []

    def make(names: tuple[str, ...]) -> Any:
        made.append(names)
        return make_format(FORM, [EntityType(name, name, "") for name in names])

    task = asked_task()
    repeated = Task(1, TYPES, (), task.query * 3, task.asked * 3)
    assert len(formats_of(repeated, make)) == 6 and made == [("a", "c"), ("b",)]


def test_a_family_that_asks_about_all_types_at_once_is_refused(root: Path) -> None:
    registry = Registry(root / "config")
    pooled = next(name for name in registry.names("settings") if registry.setting(name).sampler.pool)
    with pytest.raises(ConfigError, match="'token-metric' asks about all types at once"):
        resolve(registry, UserConfig(), Run("fewnerd-inter-open", pooled, "nnshot", "minilm"))
    resolve(registry, UserConfig(), Run("fewnerd-inter-open", pooled, "instructionner-causal", "smollm2-135m"))


def test_fewer_draws_are_the_first_ones_and_what_an_oracle_says_changes_none(root: Path, tmp_path: Path) -> None:
    for kind in ("settings", "datasets"):
        shutil.copytree(root / "config" / kind, tmp_path / kind)
    (tmp_path / "settings/few.yaml").write_text("extends: 5-way-1-shot\ntitle: few\ndraws: 7\noracle: It knows.\n")
    plan = Plan(Registry(tmp_path), {})
    params = [plan.sample_params("fewnerd-inter-open", name, "1-2") for name in ("few", "5-way-1-shot")]
    assert params[0] == params[1] and plan.blocks("few") == ["1-7"]
    assert json.loads(params[0])["setting"]["sampler"]["pool"] is None
