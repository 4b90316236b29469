"""The encoder methods' YAML resolves to what the specifications say, by shots and by backbone."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from fewtable.decoding.transitions import Counts, abstract_paths
from fewtable.errors import ConfigError
from fewtable.plan import Plan
from fewtable.registry import Registry
from fewtable.resolve import Run, resolve
from fewtable.specs import UserConfig
from fewtable.training.metric import logits


def resolved(root: Path, method: str, setting: str, backbone: str) -> Any:
    return resolve(Registry(root / "config"), UserConfig(), Run("mit-movie", setting, method, backbone))


@pytest.mark.parametrize(
    ("setting", "backbone", "batch", "lr", "epochs"),
    [
        ("10-shot", "bert-base-uncased", 2, 5e-5, 30),
        ("20-shot", "bert-large-uncased", 4, 2e-5, 30),
        ("50-shot", "bert-large-cased", 8, 2e-5, 30),
        ("100-shot", "bert-base-cased", 16, 5e-5, 30),
        ("full", "bert-base-cased", 16, 5e-5, 10),
    ],
)
def test_lc_bert_by_shots_and_backbone(
    root: Path, setting: str, backbone: str, batch: int, lr: float, epochs: int
) -> None:
    train = resolved(root, "lc-bert", setting, backbone).train
    assert (train["batch_size"], train["lr"], train["epochs"]) == (batch, lr, epochs)


def test_lc_bart_has_the_rates_of_lc_bert(root: Path) -> None:
    for setting in ("10-shot", "20-shot", "50-shot", "100-shot", "full"):
        bert = resolved(root, "lc-bert", setting, "bert-large-uncased")
        assert resolved(root, "lc-bart", setting, "bart-large").train == bert.train
        crf = resolved(root, "lc-bert-crf", setting, "bert-large-uncased")
        assert crf.train == {**bert.train, "crf": 100}


@pytest.mark.parametrize(("method", "backbone"), [("lc-bert", "bert-large-uncased"), ("lc-bart", "bart-large")])
def test_a_transfer_row_goes_on_from_the_same_method(root: Path, method: str, backbone: str) -> None:
    plain, moved = (resolved(root, m, "10-shot", backbone) for m in (method, f"{method}-transfer"))
    assert moved.train == plain.train
    assert plain.init is None
    assert moved.init == Run("conll2003", "full", method, backbone)


@pytest.mark.parametrize("backbone", ["minilm", "bert-base-uncased"])
def test_structshot_is_nnshot_decoded_otherwise(root: Path, backbone: str) -> None:
    near, struct = (resolved(root, m, "5-shot", backbone) for m in ("nnshot", "structshot"))
    assert near.train == struct.train
    assert near.decode == {"tau": None, "neighbours": None, "groups": 1}
    assert struct.decode == {**near.decode, "tau": 0.05 if near.train["normalise"] else 0.32}


def test_neighbours_and_groups_do_not_go_together(root: Path) -> None:
    user = UserConfig(overrides={"neigh-tag": {"decode": {"groups": 2}}})
    run = Run("mit-movie", "10-shot", "neigh-tag", "bert-base-cased")
    with pytest.raises(ConfigError, match=r"'neighbours' compares .* give neighbours: null") as error:
        resolve(Registry(root / "config"), user, run)
    assert error.value.where == "config/config.yaml:overrides.neigh-tag.decode"
    alone = UserConfig(overrides={"neigh-tag": {"decode": {"groups": 2, "neighbours": None}}})
    assert resolve(Registry(root / "config"), alone, run).decode["groups"] == 2


def test_protobert_trains_on_episodes_in_the_setting_full_alone(root: Path) -> None:
    assert resolved(root, "protobert", "10-shot", "bert-base-uncased").train["adapt"] is None
    assert resolved(root, "protobert", "full", "bert-base-uncased").train["adapt"]["episodes"] == 80000


def test_nothing_is_trained_on_the_target_of_training_free_methods(root: Path) -> None:
    for method, source in (("neigh-tag", "conll2003"), ("mp-nsp", "fewnerd"), ("example-ner", "conll2003")):
        target, origin = (resolved(root, m, "10-shot", "bert-base-cased") for m in (method, f"{method}-source"))
        assert target.init == Run(source, "full", f"{method}-source", "bert-base-cased")
        assert origin.init is None
        assert target.train == {**origin.train, "adapt": None}
        assert origin.train["adapt"]["lr"] == 5e-5


@pytest.mark.parametrize("method", ["neigh-tag", "example-ner"])
def test_ontonotes_can_be_the_source(root: Path, method: str) -> None:
    conll, ontonotes = (resolved(root, m, "10-shot", "bert-base-cased") for m in (method, f"{method}-ontonotes"))
    assert ontonotes.init == Run("ontonotes5", "full", f"{method}-source", "bert-base-cased")
    assert (ontonotes.train, ontonotes.decode) == (conll.train, conll.decode)


def test_mp_nsp_can_go_through_conll(root: Path) -> None:
    straight, through = (resolved(root, m, "10-shot", "bert-base-cased") for m in ("mp-nsp", "mp-nsp-conll"))
    assert (through.train, through.decode) == (straight.train, straight.decode)
    assert through.init == Run("conll2003", "full", "mp-nsp-conll-source", "bert-base-cased")
    first, second = (resolved(root, m, "full", "bert-base-cased") for m in ("mp-nsp-source", "mp-nsp-conll-source"))
    assert second.init == straight.init
    assert second.train["adapt"] == {**first.train["adapt"], "shape": {"ways": 4, "shots": 5, "query": 3}}


@pytest.mark.parametrize(
    ("setting", "groups"), [("5-shot", 1), ("10-shot", 2), ("20-shot", 4), ("50-shot", 10), ("500-shot", 100)]
)
def test_mp_nsp_has_a_group_for_five_mentions_a_type(root: Path, setting: str, groups: int) -> None:
    assert resolved(root, "mp-nsp", setting, "bert-base-cased").decode["groups"] == groups


EPISODIC = ("protobert-episodic", "nnshot-episodic", "matching-network", "l-tapnet-cdt")


@pytest.mark.parametrize("method", EPISODIC)
@pytest.mark.parametrize(
    ("dataset", "setting", "shape"),
    [
        ("fewnerd-inter-open", "5-way-1-shot", {"ways": 5, "shots": 1, "query": 1}),
        ("fewnerd-intra-episodes", "10-way-5-shot-official", {"ways": 5, "shots": 1, "query": 1}),
        ("crossner-open-news", "hou-1-shot", {"ways": None, "shots": 1, "query": 20}),
        ("crossner-mixed", "hou-5-shot", {"ways": None, "shots": 1, "query": 20}),
    ],
)
def test_an_episodic_row_is_trained_on_episodes_of_the_datasets_own_source(
    root: Path, method: str, dataset: str, setting: str, shape: Any
) -> None:
    registry = Registry(root / "config")
    target = resolve(registry, UserConfig(), Run(dataset, setting, method, "bert-base-uncased"))
    assert target.init == Run(registry.dataset(dataset).source or "", "full", f"{method}-source", "bert-base-uncased")
    source = resolve(registry, UserConfig(), target.init)
    assert target.train == {**source.train, "adapt": None}
    assert target.format == source.format
    assert source.train["adapt"]["shape"] == shape
    assert (source.train["adapt"]["batch_size"], source.train["adapt"]["episodes"]) == (
        (8, 80000) if shape["ways"] else (1, 600)
    )
    bio = method == "l-tapnet-cdt" or (not shape["ways"] and method != "nnshot-episodic")
    assert target.format.startswith("bio") == bio


@pytest.mark.parametrize(
    ("setting", "tau"), [("5-way-1-shot", 0.32), ("5-way-5-shot-official", 0.318), ("10-way-5-shot-50", 0.434)]
)
def test_structshot_has_the_power_of_few_nerd_and_nnshots_encoder(root: Path, setting: str, tau: float) -> None:
    registry = Registry(root / "config")
    near, struct = (
        resolve(registry, UserConfig(), Run("fewnerd-inter-open", setting, f"{m}-episodic", "bert-base-uncased"))
        for m in ("nnshot", "structshot")
    )
    assert struct.init == near.init
    assert struct.train == {**near.train, "transitions": "source"}
    assert (near.decode["tau"], struct.decode["tau"]) == (None, tau)


@pytest.mark.parametrize("method", ["-episodic"])
def test_transitions_change_paths_on_minilm(root: Path, method: str) -> None:
    registry = Registry(root / "config")
    near, struct = (
        resolve(registry, UserConfig(), Run("fewnerd-inter-open", "5-way-5-shot", f"{name}{method}", "minilm"))
        for name in ("nnshot", "structshot")
    )
    assert struct.train["normalise"] == near.train["normalise"]
    if struct.init is not None:
        source = resolve(registry, UserConfig(), struct.init)
        assert struct.train == {**source.train, "adapt": None, "transitions": "source"}
    # Words as long as MiniLM's; the second is a little nearer to O than to the type of the word before.
    known, query = 20 * torch.eye(3), torch.tensor([[0.0, 20.0, 0.0], [14.4, 13.6, 0.0]])
    if struct.train["normalise"]:
        known, query = (torch.nn.functional.normalize(words, dim=-1) for words in (known, query))
    scores = logits("nearest", query, known, torch.arange(3), 3).log_softmax(-1)
    counts = Counts((5, 95), (5, 95), (10, 85, 5))
    paths = abstract_paths([scores.double().numpy()], counts, 2, struct.decode["tau"])
    assert scores.argmax(-1).tolist() == [1, 0]
    assert paths == [[1, 1]]


@pytest.mark.parametrize(
    ("setting", "loss"),
    [("5-way-1-shot", "euclidean"), ("hou-1-shot-50", "euclidean"), ("10-way-5-shot", "kl"), ("hou-5-shot", "kl")],
)
def test_container_goes_on_from_its_source(root: Path, setting: str, loss: str) -> None:
    registry = Registry(root / "config")
    target = resolve(registry, UserConfig(), Run("fewnerd-inter-open", setting, "container", "bert-base-uncased"))
    assert target.init is not None
    source = resolve(registry, UserConfig(), target.init)
    assert source.train["source"]["batch_size"] == 32
    assert (source.train["source"]["epochs"], source.train["finetune"], target.train["source"]) == (1, None, None)
    assert target.train["finetune"] == {"loss": loss, "lr": 5e-5, "clip": 1.0, "most": 100}
    assert target.decode == {"tau": 0.01}


def shapes(value: Any) -> list[dict[str, int | None]]:
    """Return the shapes of episodes anywhere in training options."""
    if not isinstance(value, dict):
        return []
    own = [value["shape"]] if value.get("shape") else []
    return [*own, *(found for part in value.values() for found in shapes(part))]


def asked(plan: Plan, target: Run) -> set[str]:
    """Check that the episodes of all runs that a run starts from fit their types; return their methods."""
    registry, found = plan.registry, set()
    stage = plan.method(target).init
    while stage is not None:
        # A mixture's types are DATASET/TYPE, and an episode is of one dataset.
        owners = [kind.partition("/")[0] for kind in registry.dataset(stage.dataset).types]
        domains = [owner if owner in registry.names("datasets") else "" for owner in owners]
        method = plan.method(stage)
        for shape in shapes(method.train):
            found.add(stage.method)
            assert (shape["ways"] or 1) <= min(map(domains.count, domains)), stage.key
            if target.dataset.startswith("crossner"):
                queries = {20} if target.backbone == "bert-base-uncased" else {5, 8, 20}
                assert shape["ways"] is None and shape["query"] in queries, stage.key
            elif target.dataset.startswith("fewnerd"):
                assert (shape["ways"], shape["query"]) == (5, 1), stage.key
        stage = method.init
    return found


@pytest.mark.parametrize("name", ["obp-llm/table2", "obp-llm/table3", "obp-llm/small", "table1"])
def test_the_episodes_of_every_source_of_a_table_fit_its_types(root: Path, name: str) -> None:
    registry = Registry(root / "config")
    plan, spec = Plan(registry, {}), registry.table(name)
    places = [(c.dataset, c.setting) for column in spec.columns for c in (column, *column.instead)]
    found = {m for row in spec.rows for place in places for m in asked(plan, Run(*place, row.method, row.backbone))}
    own = {"mp-nsp-source"} if name == "table1" else {"protobert-episodic-source", "msdp-pretraining", "msdp-source"}
    assert own <= found


@pytest.mark.parametrize("backbone", ["bert-base-uncased", "minilm"])
def test_the_episodes_of_every_method_fit_every_dataset_that_has_a_source(root: Path, backbone: str) -> None:
    registry = Registry(root / "config")
    plan = Plan(registry, {})
    targets = [name for name in registry.names("datasets") if registry.dataset(name).source]
    assert {"crossner-mixed", "crossner-hou-news", "fewnerd-intra-episodes", "mit-movie"} <= set(targets)
    methods = (*EPISODIC, "esd", "span-proto", "msdp", "decom-meta")
    for dataset, method in itertools.product(targets, methods):
        assert f"{method}-source" in asked(plan, Run(dataset, "hou-1-shot", method, backbone)), (dataset, method)


def test_decom_meta_takes_few_nerds_steps_where_it_learned_on_few_nerd(root: Path) -> None:
    registry = Registry(root / "config")
    targets = [name for name in registry.names("datasets") if registry.dataset(name).source]
    assert {"crossner-social", "fewnerd-intra-episodes", "mit-movie"} <= set(targets)
    for name in targets:
        target = resolve(registry, UserConfig(), Run(name, "5-way-1-shot", "decom-meta", "bert-base-uncased"))
        assert target.init is not None
        source = resolve(registry, UserConfig(), target.init)
        few = source.train["meta"]["shape"]["ways"] == 5
        spans = {k: target.train["spans"][k] for k in ("steps", "lr", "worst")}
        steps = 50 if "news" in name and "source" not in name else 40
        assert spans == ({"steps": 3, "lr": 3e-5, "worst": 5} if few else {"steps": steps, "lr": 1e-4, "worst": 0})
        types = 3 if few or steps == 50 else 20
        assert (target.train["types"]["steps"], target.train["types"]["lr"]) == (types, 3e-5 if few else 1e-4)
        worst = (source.train["spans"]["worst"], source.train["meta"]["spans"]["worst"])
        assert worst == ((5, 2) if few else (0, 0))
        assert source.train["meta"]["types"]["batch_size"] == (32 if few else 16)
