"""The registered corpora: their params, what they are made from, and that no test sentence is among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewtable.corpus import write_sentences
from fewtable.data.load import load_split
from fewtable.errors import ConfigError
from fewtable.passages.build import build
from fewtable.passages.count import words
from fewtable.plan import Plan
from fewtable.registry import Registry
from fewtable.specs import UserConfig

MINE = """title: Mine
licence: our own
note: A note.
sources:
- dataset: {name: wnut17}
- file: {path: %s/*.txt}
tokens: words
"""


@pytest.fixture
def plan(root: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(root)
    return Plan(Registry(Path("config")), {})


def own(root: Path, tmp_path: Path, text: str) -> Plan:
    config = tmp_path / "config"
    if not config.exists():
        (config / "corpora").mkdir(parents=True)
        for kind in ("datasets", "backbones"):
            (config / kind).symlink_to(root / "config" / kind)
    (config / "corpora" / "mine.yaml").write_text(text)
    return Plan(Registry(config), {}, root / "src")


def test_params_are_what_changes_the_passages(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    text = MINE % tmp_path
    first = own(root, tmp_path, text).passages_params("mine")
    assert set(json.loads(first)) == {
        *("sources", "tokens", "max_tokens", "min_tokens", "english", "passages", "seed", "code")
    }
    assert own(root, tmp_path, text.replace("A note", "Another")).passages_params("mine") == first
    assert own(root, tmp_path, text + "seed: 2\n").passages_params("mine") != first


def test_what_they_are_made_from(root: Path, tmp_path: Path, plan: Plan) -> None:
    for name in "ba":
        (tmp_path / f"{name}.txt").write_text("x")
    mine = own(root, tmp_path, MINE % tmp_path)
    assert mine.passage_files("mine") == ["results/data/wnut17/train.jsonl", f"{tmp_path}/a.txt", f"{tmp_path}/b.txt"]
    assert mine.counting_backbone("mine") is None
    assert plan.passage_files("pile") == []
    assert plan.counting_backbone("pile") == "results/backbones/smollm2-135m"


@pytest.mark.parametrize(
    ("old", "new", "said", "fix"),
    [
        ("wnut17", "wnut71", "unknown dataset 'wnut71'", "did you mean 'wnut17'?"),
        ("{name: wnut17}", "{name: wnut17, split: trian}", "'wnut17' has no split 'trian'", "it has dev, test, train"),
        ("words", "smolm2-135m", "unknown backbone 'smolm2-135m'", "did you mean 'smollm2-135m'?"),
        ("*.txt", "*.doc", "there is no such file", "mend 'path' in the corpus's YAML"),
    ],
)
def test_a_wrong_name_is_an_error(root: Path, tmp_path: Path, old: str, new: str, said: str, fix: str) -> None:
    (tmp_path / "a.txt").write_text("x")
    mine = own(root, tmp_path, (MINE % tmp_path).replace(old, new))
    with pytest.raises(ConfigError, match=said) as caught:
        mine.check_target("results/passages/mine.jsonl")
    assert caught.value.fix == fix


def test_an_unknown_corpus_is_named(plan: Plan) -> None:
    for target in ("results/passages/piel.jsonl", "results/passages/piel.summary.json"):
        with pytest.raises(ConfigError, match="unknown corpus 'piel'") as caught:
            plan.check_target(target)
        assert caught.value.fix == "did you mean 'pile'?"
    plan.check_target("results/passages/pile.jsonl")


def test_hub_corpora_are_pinned(plan: Plan) -> None:
    for name in plan.registry.names("corpora"):
        for source in plan.registry.corpus(name).sources:
            assert source.hub is None or len(source.hub.revision) == 40


@pytest.mark.shared
def test_open_sentences_hold_enough_and_no_test_sentence(plan: Plan, mirror: Path, tmp_path: Path) -> None:
    """Counted in words in place of tokens, which need the backbone's weights to be unpacked first."""
    user = UserConfig(mirror=str(mirror))

    def sentences(dataset: str, split: str) -> Any:
        return load_split(plan.registry, user, dataset, split)

    corpus = plan.registry.corpus("open-sentences")
    for source in corpus.sources:
        assert source.dataset is not None
        path = tmp_path / source.dataset.name / f"{source.dataset.split}.jsonl"
        write_sentences(path, sentences(source.dataset.name, source.dataset.split))
    everything = corpus.model_copy(update={"tokens": "words", "passages": 10**6, "max_tokens": 48})
    kept, tally = build(everything, tmp_path, words)
    assert tally["kept"] > 15_000 > corpus.passages >= 2500
    tests = {s.text.lower() for d in ("crossner-ai", "mit-restaurant") for s in sentences(d, "test")}
    assert not tests & {passage.text.lower() for passage in kept}
