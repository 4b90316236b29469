"""The CrossNER of Hou et al. 2020: who learns from whom, in the official files and where we draw the episodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewtable.corpus import Sentence, Task, build_tasks, write_sentences
from fewtable.data.normalise import normalise
from fewtable.errors import DataError
from fewtable.families._episodes import Shape, from_source
from fewtable.plan import Plan
from fewtable.predictions import entity_types, make_format, task_types
from fewtable.registry import Registry
from fewtable.sampling import draw_block, read_sample_spec

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


def episode(*rows: str) -> dict[str, object]:
    """'word:tag word' a sentence; support and query are the same."""
    cells = [[(*cell.split(":"), "O")[:2] for cell in row.split()] for row in rows]
    part = {"seq_ins": [[w for w, _ in row] for row in cells], "seq_outs": [[t for _, t in row] for row in cells]}
    return {"support": part, "batch": part}


NEWS = episode("Bo:B-PER in Rome:B-LOC", "Eve:B-PER of UN:B-ORG", "Cup:B-MISC of Ann:B-PER", "Al:B-PER and Oslo:B-LOC")
WIKI = episode("she:B-person ate", "the UN:B-organization", "he:B-person at home:B-place", "we:B-person at sea:B-place")


def sentences(plan: Plan, folder: Path, name: str, keys: tuple[str, str] = ("News", "Wiki")) -> list[Sentence]:
    """The train split of an official source, of files with two domains."""
    spec, raw = plan.registry.dataset(name), {}
    first, second = spec.splits["train"].files
    for file, value in ((first, {keys[0]: [NEWS]}), (second, {keys[1]: [WIKI], keys[0]: [NEWS]})):
        raw[file] = folder / file
        raw[file].write_text(json.dumps(value))
    return normalise(name, spec, "train", raw)


@pytest.mark.parametrize("domain", CORPORA)
def test_official_sources_read_the_training_files_of_their_test_domain(plan: Plan, domain: str, tmp_path: Path) -> None:
    name = plan.registry.dataset(f"crossner-hou-{domain}").source
    assert name == f"crossner-hou-{domain}-source"
    spec, number = plan.registry.dataset(name), list(CORPORA).index(domain) + 1
    for split in ("train", "test"):
        assert spec.splits[split].files == (f"ner_train_{number}.json", f"ner-train-{number}-shot-5.json")
    made = sentences(plan, tmp_path, name)
    assert [s.source for s in made] == ["News"] * 4 + ["Wiki"] * 4
    assert [e.type for s in made[:2] for e in s.entities] == ["News/PER", "News/LOC", "News/PER", "News/ORG"]
    assert {e.type.rpartition("/")[0] for s in made[4:] for e in s.entities} == {"Wiki"}
    with pytest.raises(DataError, match="unknown type 'GUM/person'") as caught:
        sentences(plan, tmp_path, name, ("News", "GUM"))
    assert caught.value.fix is not None and "list its domain under domains" in caught.value.fix


def test_a_domain_has_the_types_of_its_corpus(plan: Plan) -> None:
    types = plan.registry.dataset("crossner-hou-social-source").types
    for domain, corpus in zip(("News", "Wiki", "SocialMedia", "OntoNotes"), CORPORA.values(), strict=True):
        own = {name.rpartition("/")[2]: kind for name, kind in types.items() if name.startswith(f"{domain}/")}
        assert own == plan.registry.dataset(corpus).types
    assert len(types) == 4 + 11 + 6 + 18


def source_task(plan: Plan, folder: Path) -> Task:
    """The task of a run on an official source, as the jobs of the workflow make it."""
    name = "crossner-hou-social-source"
    data = {split: folder / f"{split}.jsonl" for split in ("train", "test")}
    made = sentences(plan, folder, name)
    write_sentences(data["train"], made)
    write_sentences(data["test"], [Sentence("test-000000", ("nobody", "left"), source="Wiki")])
    spec = json.loads(plan.sample_params(name, "full", plan.blocks("full")[0]))
    (task,) = build_tasks(draw_block(read_sample_spec(json.dumps(spec)), folder), data)
    return task


def test_a_run_on_an_official_source_knows_the_types_of_its_two_domains(plan: Plan, tmp_path: Path) -> None:
    task = source_task(plan, tmp_path)
    assert task.types == (
        "News/PER", "News/LOC", "News/ORG", "News/MISC", "Wiki/organization", "Wiki/person", "Wiki/place",
    )  # fmt: skip
    assert sum(len(s.entities) for s in task.support) == 14 and len(task.query) == 1


@pytest.mark.parametrize("negatives", ["all", 1.0])
def test_a_sentence_of_an_official_source_is_asked_about_its_own_domain(
    plan: Plan, tmp_path: Path, negatives: Any
) -> None:
    task = source_task(plan, tmp_path)
    shown = plan.registry.dataset("crossner-hou-social-source").types
    types = entity_types({name: kind.model_dump() for name, kind in shown.items()})
    form = make_format({"name": "brackets", "negatives": negatives}, task_types(types, task.types))
    asked = form.questions(task.support, 1)
    assert len(form.examples(task.support, 1)) == len(asked)
    assert all(name.startswith(f"{sentence.source}/") for sentence, name in asked)
    if negatives == "all":
        assert len(asked) == 4 * 4 + 4 * 3
    else:
        assert len(asked) == 4 * (2 + 2) + 2 * (1 + 1) + 2 * (2 + 1)
    organisations = [e.prompt for e in form.examples(task.support, 1) if "extract organization entities" in e.prompt]
    assert organisations, "both domains show the type by the same word"


def test_episodes_of_an_official_source_are_of_one_domain(plan: Plan, tmp_path: Path) -> None:
    task = source_task(plan, tmp_path)
    draw = from_source(task, Shape(shots=1, query=1), 3)
    twice = {"News": {"News/PER", "News/LOC"}, "Wiki": {"Wiki/person", "Wiki/place"}}  # as mini-including asks
    found = set()
    for number in range(8):
        made = draw(number)
        (domain,) = {s.source for s in (*made.support, *made.query)}
        assert set(made.types) == twice[domain] == {e.type for s in made.support for e in s.entities}
        found.add(domain)
    assert found == {"News", "Wiki"}
