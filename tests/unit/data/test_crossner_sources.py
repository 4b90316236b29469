"""The CrossNER of Hou et al. 2020: who learns from whom, in the official files and where we draw the episodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewtable.data.normalise import normalise
from fewtable.plan import Plan
from fewtable.registry import Registry

CORPORA = {"news": "conll2003", "wiki": "gum-2017", "social": "wnut17", "mixed": "ontonotes5"}
LEARNS_FROM = {
    "news": ("social", "mixed"),
    "wiki": ("news", "mixed"),
    "social": ("news", "wiki"),
    "mixed": ("wiki", "social"),
}


@pytest.fixture
def plan(root: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(root)
    return Plan(Registry(Path("config")), {})


@pytest.mark.parametrize("domain", CORPORA)
def test_two_other_domains_are_the_source_and_the_next_one_is_left(plan: Plan, domain: str) -> None:
    spec = plan.registry.dataset(f"crossner-{domain}")
    assert spec.source == f"crossner-{domain}-source"
    source = plan.registry.dataset(spec.source)
    assert source.mixture is not None
    assert source.mixture.datasets == tuple(CORPORA[other] for other in LEARNS_FROM[domain])
    order = list(CORPORA)
    left = set(order) - {domain, *LEARNS_FROM[domain]}
    assert left == {order[(order.index(domain) + 1) % 4]}
    assert {kind.rpartition("/")[0] for kind in source.types} == set(source.mixture.datasets)
    assert set(spec.types) == set(plan.registry.dataset(CORPORA[domain]).types)
    assert {"train", "test"} <= set(source.splits), "the setting full trains and asks"
    assert not {
        path for f in source.files.values() for s in f.sources for path in [s.path or ""] if CORPORA[domain] in path
    }


def test_what_is_made_of_a_licensed_corpus_waits_for_it(plan: Plan) -> None:
    for name in ("crossner-mixed", "crossner-news-source", "crossner-wiki-source"):
        assert "licensed.ontonotes5" in str(plan.missing(name, ("train", "test")))
    assert plan.missing("crossner-social-source", ("train", "test")) is None
    assert plan.missing("crossner-news", ("train", "test")) is None


@pytest.mark.parametrize("domain", CORPORA)
def test_official_sources_read_the_training_files_of_their_test_domain(plan: Plan, domain: str, tmp_path: Path) -> None:
    name = plan.registry.dataset(f"crossner-hou-{domain}").source
    assert name == f"crossner-hou-{domain}-source"
    spec, number = plan.registry.dataset(name), list(CORPORA).index(domain) + 1
    assert spec.splits["train"].files == (f"ner_train_{number}.json", f"ner-train-{number}-shot-5.json")
    assert spec.splits["test"].files == (f"ner_valid_{number}.json", f"ner-valid-{number}-shot-5.json")

    def episode(word: str, tag: str) -> dict[str, object]:
        part = {"seq_ins": [[word, "."]], "seq_outs": [[f"B-{tag}", "O"]]}
        return {"support": part, "batch": part}

    first, second = ({"News": [episode("Bo", "PER")], "GUM": [episode(word, "person")]} for word in ("she", "he"))
    raw = {}
    for file, value in zip(spec.splits["train"].files, (first, second), strict=True):
        raw[file] = tmp_path / file
        raw[file].write_text(json.dumps(value))
    made = normalise(name, spec, "train", raw)
    assert [(s.words[0], s.entities[0].type, s.source) for s in made] == [
        ("Bo", "PER", "News"),
        ("she", "person", "GUM"),
        ("he", "person", "GUM"),
    ]
