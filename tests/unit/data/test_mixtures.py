"""Datasets made of other targets: mixtures of corpora, and a teacher's annotations with types of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fewtable.corpus import Entity, Sentence, split_words, write_sentences
from fewtable.data.normalise import normalise
from fewtable.errors import ConfigError
from fewtable.plan import Plan
from fewtable.predictions import entity_types, make_format, task_types
from fewtable.registry import Registry
from fewtable.resolve import Run
from fewtable.sampling.drawing import draw_block
from fewtable.specs import DrawSpec, SampleSpec

BASE = {"title": "T", "domain": "news", "licence": "none"}


def corpus(kind: str, **more: Any) -> dict[str, Any]:
    return {
        **BASE,
        "reader": "jsonl",
        "files": {"train.jsonl": {"sources": [{"url": "https://example.org/train.jsonl"}]}},
        "splits": {"train": {"files": ["train.jsonl"]}},
        "types": {kind: {"words": "person", "definition": "d"}},
        **more,
    }


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    folder = tmp_path / "datasets"
    folder.mkdir()
    mixed = {**BASE, "mixture": {"datasets": ["one", "two"], "limit": 2}}
    licensed = {"access": "licensed", "obtain": "buy it"}
    for name, value in {"one": corpus("PER"), "two": corpus("p", **licensed), "mixed": mixed}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(value))
    return Registry(tmp_path)


def test_a_mixture_has_the_types_and_sentences_of_its_datasets(registry: Registry, tmp_path: Path) -> None:
    spec = registry.dataset("mixed")
    assert {name: kind.words for name, kind in spec.types.items()} == {"one/PER": "person", "two/p": "person"}
    assert [s.path for f in spec.files.values() for s in f.sources] == [
        "results/data/one/train.jsonl",
        "results/data/two/train.jsonl",
    ]
    words, glued = split_words("a-b")
    write_sentences(tmp_path / "one.jsonl", [Sentence(f"x-{n}", (str(n),), (Entity(0, 1, "PER"),)) for n in range(5)])
    write_sentences(tmp_path / "two.jsonl", [Sentence("x-0", words, (Entity(0, 3, "p"),), glued)])
    made = normalise("mixed", spec, "train", {f"{n}.jsonl": tmp_path / f"{n}.jsonl" for n in ("one", "two")})
    assert [s.source for s in made] == ["one", "one", "two"], "the limit holds for each"
    assert made[-1] == Sentence("train-000002", words, (Entity(0, 3, "two/p"),), glued, "two")
    assert [int(s.words[0]) for s in made[:2]] == sorted(int(s.words[0]) for s in made[:2])
    form = make_format({"name": "uniner"}, entity_types({n: t.model_dump() for n, t in spec.types.items()}))
    assert len(form.examples(made, 1)) == 3, "types of two sources may have the same words"


def test_a_mixture_waits_for_the_licence_of_what_it_is_of(registry: Registry) -> None:
    plan = Plan(registry, {})
    assert "licensed.two" in str(plan.missing("mixed", ["train"]))
    assert plan.own_files("mixed", "one.jsonl") == ["results/data/one/train.jsonl"]


def test_a_mixture_names_a_split_that_is_not_there(registry: Registry) -> None:
    value = {**BASE, "mixture": {"datasets": ["one"], "split": "dev"}}
    (registry.root / "datasets" / "odd.yaml").write_text(yaml.safe_dump(value))
    with pytest.raises(ConfigError, match="'one' has no split 'dev'"):
        Registry(registry.root).dataset("odd")


def test_open_types_are_those_of_the_data(root: Path, tmp_path: Path) -> None:
    spec = Registry(root / "config").dataset("open-sentences-spacy")
    words, glued = split_words("Bo's car")
    sentences = [
        Sentence("passage-0", words, (Entity(0, 1, "person"), Entity(3, 4, "means of transport")), glued),
        Sentence("passage-1", ("Rome",), (Entity(0, 1, "city"),)),
    ]
    write_sentences(tmp_path / "raw.jsonl", sentences)
    whole = spec.model_copy(update={"splits": {"train": spec.splits["train"].model_copy(update={"part": None})}})
    made = normalise("open", whole, "train", {"annotations.jsonl": tmp_path / "raw.jsonl"})
    assert made[0].text == "Bo's car" and made[0].entities == sentences[0].entities
    write_sentences(tmp_path / "train.jsonl", made)
    write_sentences(tmp_path / "test.jsonl", made)
    setting = DrawSpec.model_validate({"sampler": {"rule": "all"}})
    (sample,) = draw_block(SampleSpec(dataset="open", setting=setting, types=(), draws=(1,)), tmp_path)
    assert sample.types == ("city", "means of transport", "person")
    form = make_format({"name": "uniner"}, task_types((), sample.types))
    assert form.render(made[1])[0].prompt == "What describes city in the text?"


def test_what_is_not_trained_decodes_with_its_source_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    plan = Plan(Registry(Path("config")), {})
    asked = Run("mit-restaurant", "zero-shot", "uniner-small", "smollm2-135m")
    source = "results/runs/open-sentences-spacy/full/uniner-small-source/smollm2-135m/1-1/model"
    assert plan.trained_model(asked, "1-1") == source
    tuned = asked._replace(setting="10-shot")
    assert plan.trained_model(tuned, "1-3") == f"results/runs/{tuned.key}/1-3/model"
    assert plan.init_model(tuned, "1-3") == source


def test_a_mixture_without_a_test_split_is_only_learned(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    plan = Plan(Registry(Path("config")), {})
    assert list(plan.data_files("uniner-supervised", "full")) == ["train"]
    assert json.loads(plan.sample_params("uniner-supervised", "full", "1-1"))["asked"] is False
    assert list(plan.data_files("mit-movie", "full")) == ["train", "test"]
    assert "asked" not in json.loads(plan.sample_params("mit-movie", "full", "1-1"))
