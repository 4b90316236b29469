"""The plan: blocks, params with exactly the keys that count, blocked cells, official episodes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fewtable.backbones import materialise
from fewtable.errors import ConfigError, DataError
from fewtable.plan import Plan
from fewtable.registry import Registry
from fewtable.resolve import Run


@pytest.fixture
def make(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(root)
    return lambda **config: Plan(Registry(Path("config")), config)


def test_blocks_follow_draws(make: Any) -> None:
    assert make().blocks("10-shot") == ["1-3"]
    assert make(draws={"10-shot": 4}).blocks("10-shot") == ["1-3", "4-4"]
    assert make(draws={"10-shot": 5}).blocks("10-shot") == ["1-3", "4-4", "5-5"], "one more leaves the others"
    assert make(draws={"5-way-1-shot": 120}).blocks("5-way-1-shot") == ["1-50", "51-100", "101-120"]
    assert make().block_draws("4-6") == (4, 5, 6)


def test_training_does_not_know_decoding_and_parsing(make: Any) -> None:
    run = Run("wnut16-demo", "5-shot-300", "instructionner-causal", "smollm2-135m")
    plain = make()
    other = make(overrides={"instructionner-causal": {"decode": {"beams": 2}, "format": {"parse": "robust"}}})
    assert plain.run_params(run, "1-2", decode=False) == other.run_params(run, "1-2", decode=False)
    assert plain.run_params(run, "1-2", decode=True) != other.run_params(run, "1-2", decode=True)
    assert plain.score_params(run) != other.score_params(run)


def test_types_reach_only_the_methods_that_show_them(make: Any) -> None:
    text = json.loads(
        make().run_params(Run("wnut16-demo", "5-shot-300", "instructionner-causal", "tiny-llama"), "1-2", False)
    )
    tags = json.loads(make().run_params(Run("wnut16-demo", "5-shot-300", "lc-bert", "minilm"), "1-2", False))
    assert set(text["types"]["person"]) == {"words"}
    assert tags["types"]["person"] == {}
    assert list(text["types"]) == list(make().registry.dataset("wnut16-demo").types), "options keep the YAML's order"


def test_when_lays_values_by_setting_and_backbone(make: Any) -> None:
    def train(setting: str, backbone: str) -> Any:
        return make().method(Run("mit-movie", setting, "lc-bert", backbone)).train

    assert [train(s, "bert-large-uncased")["batch_size"] for s in ("10-shot", "20-shot", "50-shot", "full")] == [
        2,
        4,
        8,
        16,
    ]
    assert train("10-shot", "bert-large-uncased")["lr"] == 2e-5
    assert train("10-shot", "bert-base-uncased")["lr"] == 5e-5


def test_overrides_are_checked(make: Any) -> None:
    run = Run("mit-movie", "10-shot", "lc-bert", "minilm")
    with pytest.raises(ConfigError, match="'trian' cannot be set here"):
        make(overrides={"lc-bert": {"trian": {}}}).method(run)
    with pytest.raises(ConfigError) as caught:
        make(overrides={"lc-bert": {"train": {"epoch": 5}}}).method(run)
    assert "config/config.yaml:overrides.lc-bert.train:epoch" in str(caught.value)
    assert "did you mean 'epochs'?" in str(caught.value)
    with pytest.raises(ConfigError, match="backbones that fit") as caught:
        make().method(run._replace(backbone="smollm2-135m"))
    assert "cannot run on backbone 'smollm2-135m'" in str(caught.value)


def test_a_missing_licence_blocks_only_its_cells(make: Any) -> None:
    assert make().blocked("ontonotes5", "10-shot").startswith("licence: set licensed.ontonotes5")
    gone = make(licensed={"ontonotes5": "/nowhere"}).blocked("ontonotes5", "10-shot")
    assert gone.startswith("licence: the folder /nowhere")
    assert make(licensed={"ontonotes5": "config"}).blocked("ontonotes5", "10-shot") is None
    assert make().blocked("mit-movie", "10-shot") is None
    assert make().blocked("fewnerd", "10-shot").startswith("data: ")


def test_a_cell_waits_for_the_data_of_the_run_it_starts_from(make: Any) -> None:
    run = Run("mit-movie", "10-shot", "mp-nsp", "tiny-bert")  # its source run learns from Few-NERD
    assert make().unavailable(run) == make().blocked("fewnerd", "full") is not None
    assert make().unavailable(Run("mit-movie", "10-shot", "lc-bert-transfer", "tiny-bert")) is None


def test_weights_that_cannot_be_had_block_their_cells(make: Any, tmp_path: Path) -> None:
    plan = make()
    reason = plan.unavailable(Run("crossner-ai-uniner", "zero-shot", "ye", "vicuna-7b"))
    assert reason and reason.startswith("weights: the hub has pickles only")
    vicunas = [place for place, why in plan._blocked_places("tables", "universalner/table3").items() if why == reason]
    assert vicunas and all(place.startswith("vicuna-7b/") for place in vicunas)
    with pytest.raises(DataError, match="pickles only") as caught:
        materialise("vicuna-7b", plan.registry.backbone("vicuna-7b"), tmp_path / "vicuna")
    assert "config/backbones/vicuna-7b.yaml:unavailable" in str(caught.value)


def test_a_missing_licence_names_the_files(make: Any) -> None:
    assert "with train/data/english/annotations" in make().blocked("ontonotes5", "10-shot")
    assert "test/data/english/annotations" in make(licensed={"ontonotes5": "/nowhere"}).blocked("ontonotes5", "10-shot")


def test_a_file_without_a_checksum_follows_its_source(make: Any) -> None:
    plan = make(licensed={"ontonotes5": "/a"})
    name = next(iter(plan.registry.dataset("ontonotes5").files))
    assert plan.fetch_params("ontonotes5", name) != make(licensed={"ontonotes5": "/b"}).fetch_params("ontonotes5", name)
    known = make().fetch_params("wnut16-demo", "train.conll")
    assert known == make(mirror="/elsewhere").fetch_params("wnut16-demo", "train.conll"), "a checksum is enough"


def test_a_password_does_not_reach_the_commands(make: Any) -> None:
    plan = make(tracking={"uri": "http://me:s3cret@host"})
    assert "s3cret" not in plan.tracking_params()
    assert plan.tracking_params() != make().tracking_params()


def test_a_source_run_is_shared_by_all_draws(make: Any, tmp_path: Path, root: Path) -> None:
    shutil.copytree(root / "config", tmp_path / "config")
    (tmp_path / "config/methods/moved.yaml").write_text(
        "extends: lc-bert\ntitle: Moved\ninit: {method: lc-bert, dataset: conll2003, setting: full}\n"
    )
    plan = Plan(Registry(tmp_path / "config"), {})
    run = Run("mit-restaurant", "10-shot", "moved", "minilm")
    assert plan.init_model(run, "4-6") == "results/runs/conll2003/full/lc-bert/minilm/1-1/model"
    assert json.loads(plan.run_params(run, "1-3", False))["init"] == "conll2003/full/lc-bert/minilm"
    (tmp_path / "config/methods/staged.yaml").write_text("extends: lc-bert\ntitle: Staged\ninit: {method: lc-bert}\n")
    staged = Plan(Registry(tmp_path / "config"), {})
    assert (
        staged.init_model(run._replace(method="staged"), "4-6")
        == "results/runs/mit-restaurant/10-shot/lc-bert/minilm/4-6/model"
    )
    (tmp_path / "config/methods/wrong.yaml").write_text(
        "extends: lc-bert\ntitle: Wrong\ninit: {dataset: conll2003, setting: 10-shot, method: lc-bert}\n"
    )
    with pytest.raises(ConfigError, match="which has 3 draws"):
        Plan(Registry(tmp_path / "config"), {}).init_model(run._replace(method="wrong"), "1-3")


def test_what_is_not_trained_is_told_as_its_source_was_trained(make: Any, tmp_path: Path, root: Path) -> None:
    run = Run("mit-restaurant", "zero-shot", "uniner-type", "llama-7b")
    plan = make(overrides={"uniner-type-source": {"train": {"epochs": 1, "template": "chat"}}})
    spec, cell = plan.run_spec(run, "1-1", decode=True), json.loads(plan.cell_params(run))["spec"]
    assert (spec.train["epochs"], spec.train["template"]) == (1, "chat")
    assert cell["train"] == spec.train
    tuned = plan.run_spec(run._replace(setting="10-shot"), "1-3", decode=True)
    assert (tuned.train["epochs"], tuned.train["template"]) == (3, "ie-as-qa"), "it is trained by its own"

    shutil.copytree(root / "config", tmp_path / "config")
    (tmp_path / "config/methods/odd.yaml").write_text("extends: uniner-type\ntitle: Odd\nformat: {name: ye}\n")
    with pytest.raises(ConfigError, match="of format 'uniner', not a causal of format 'ye'"):
        Plan(Registry(tmp_path / "config"), {}).method(run._replace(method="odd"))


def test_only_families_that_share_the_work_get_several_gpus(tmp_path: Path, root: Path) -> None:
    shutil.copytree(root / "config", tmp_path / "config")
    for name in ("llama-7b", "bert-large-cased"):
        path = tmp_path / f"config/backbones/many-{name}.yaml"
        path.write_text(f"extends: {name}\ntitle: On four\ngpu: 4\n")
    plan = Plan(Registry(tmp_path / "config"), {})
    run = Run("mit-restaurant", "10-shot", "uniner-type", "many-llama-7b")
    assert plan.train_gpus(run) == 4
    assert plan.train_gpus(run._replace(method="ye")) == 1
    assert plan.train_gpus(run._replace(method="lc-bert", backbone="many-bert-large-cased")) == 1
    assert plan.train_gpus(run._replace(method="uniner-small", backbone="tiny-llama")) == 0
    rules = (root / "workflow/rules/runs.smk").read_text().partition("rule decode:")[0]
    assert "gpu=lambda w: plan.train_gpus(run_of(w))," in rules and "--processes {resources.gpu}" in rules


def test_a_method_that_trains_for_long_asks_for_its_own_minutes(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "config", tmp_path / "config")
    (tmp_path / "config/methods/quick.yaml").write_text("extends: lc-bert\ntitle: Quick\nminutes: 1\n")
    plan = Plan(Registry(tmp_path / "config"), {})
    backbone = plan.registry.backbone("bert-base-uncased").minutes
    for name in ("decom-meta", "esd", "span-proto", "msdp", "container"):
        target = Run("fewnerd-inter-open", "5-way-1-shot", name, "bert-base-uncased")
        assert plan.train_minutes(target) == backbone, "the long training is its source's"
        stage = plan.method(target).init
        while stage is not None:
            assert plan.train_minutes(stage) == 1440 > backbone, stage.key
            stage = plan.method(stage).init
    quick = Run("mit-movie", "10-shot", "quick", "bert-base-uncased")
    assert plan.train_minutes(quick) == backbone, "of both the longer one"
    train, _, decode = (root / "workflow/rules/runs.smk").read_text().partition("rule decode:")
    assert "runtime=growing(lambda w: plan.train_minutes(run_of(w)))," in train
    assert 'runtime=growing(backbone_of("minutes")),' in decode


def test_what_draws_nothing_has_one_draw(make: Any) -> None:
    assert make(draws={"zero-shot": 1}).blocks("zero-shot") == ["1-1"]
    with pytest.raises(ConfigError, match="'zero-shot' draws nothing") as caught:
        make(draws={"zero-shot-150": 1, "zero-shot": 2}).blocks("zero-shot")
    assert "config/config.yaml:draws.zero-shot" in str(caught.value)


def test_official_episodes_need_their_raw_files(make: Any) -> None:
    files = make().sample_files("fewnerd-inter-episodes", "5-way-1-shot-official")
    assert "results/raw/fewnerd-inter-episodes/test_5_1.jsonl" in files
    params = json.loads(make().sample_params("fewnerd-inter-episodes", "5-way-1-shot-official", "1-50"))
    assert params["episodes"]["reader"] == "fewnerd-episodes"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("results/cells/wnut16-dem/5-shot/lexicon/none.json", "unknown dataset 'wnut16-dem'"),
        ("results/cells/wnut16-demo/5-sht/lexicon/none.json", "unknown setting '5-sht'"),
        ("results/runs/wnut16-demo/5-shot/lightnr/none/1-3/model", "unknown method 'lightnr'"),
        ("results/cells/wnut16-demo/5-shot/lexicon/nonee.json", "unknown backbone 'nonee'"),
        ("results/samples/x/5-shot/1-3.jsonl", "unknown dataset 'x'"),
        ("results/tabel1.csv", "unknown table 'tabel1'"),
        ("results/instructionner/tabel4.csv", "unknown table 'instructionner/tabel4'"),
        ("results/instructionner/figur3.svg", "unknown figure 'instructionner/figur3'"),
        ("results/instructionner/table4.svg", "unknown figure 'instructionner/table4'"),
    ],
)
def test_a_misspelt_target_is_named(make: Any, target: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make().check_target(target)


def test_right_targets_pass(make: Any) -> None:
    for target in (
        "results/demo.csv",
        "results/report.html",
        "results/instructionner/table4.csv",
        "results/cells/mit-movie/10-shot/lc-bert/minilm.json",
        "results/raw/x/y",
    ):
        if target != "results/raw/x/y":
            make().check_target(target)


def test_planning_imports_nothing_heavy(root: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from fewtable.plan import Plan; from fewtable.registry import Registry\n"
        "plan = Plan(Registry(Path('config')), {})\n"
        "for run in plan.cells('tables', 'table1'): plan.run_params(run, '1-3', True); plan.cell_params(run)\n"
        "plan.table_params('table1')\n"
        "heavy = {'torch', 'transformers', 'mlflow', 'pandas', 'datasets', 'peft', 'trl', 'pulp'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_a_run_may_start_from_the_source_domain_of_its_dataset(make: Any, tmp_path: Path, root: Path) -> None:
    shutil.copytree(root / "config", tmp_path / "config")
    (tmp_path / "config/methods/moved.yaml").write_text(
        "extends: protobert\ntitle: Moved\ninit: {method: protobert, source: true}\n"
    )
    plan = Plan(Registry(tmp_path / "config"), {})
    run = Run("crossner-open-wiki", "hou-1-shot", "moved", "tiny-bert")
    assert plan.method(run).init == Run("conll2003", "full", "protobert", "tiny-bert")
    with pytest.raises(ConfigError, match="'tasteset' names none") as caught:
        plan.method(run._replace(dataset="tasteset"))
    assert "config/datasets/tasteset.yaml" in str(caught.value)
    (tmp_path / "config/methods/both.yaml").write_text("extends: moved\ninit: {setting: full}\n")
    with pytest.raises(ConfigError, match="give no 'dataset' or 'setting'"):
        Plan(Registry(tmp_path / "config"), {}).registry.method("both")


def test_a_column_without_data_shows_what_may_stand_there_instead(tmp_path: Path, root: Path, mirror: Path) -> None:
    shutil.copytree(root / "config", tmp_path / "config")
    (tmp_path / "config/tables/other.yaml").write_text(
        "title: T\nrows: [{id: a, title: A, method: nnshot, backbone: tiny-bert}]\n"
        "columns:\n- {id: news, title: News, dataset: crossner-hou-news, setting: hou-1-shot-official, instead: [\n"
        "  {title: (licensed), dataset: ontonotes5, setting: hou-1-shot},\n"
        "  {title: (sampled here), dataset: crossner-open-news, setting: hou-1-shot}]}\n"
    )
    plan = Plan(Registry(tmp_path / "config"), {"mirror": str(mirror)})
    (column,) = plan.table("other").columns
    assert (column.dataset, column.title) == ("crossner-open-news", "News (sampled here)")
    assert plan.cells("tables", "other") == [Run("crossner-open-news", "hou-1-shot", "nnshot", "tiny-bert")]
    assert "News (sampled here)" in plan.table_params("other")
    (column,) = Plan(Registry(tmp_path / "config"), {"offline": True, "mirror": str(tmp_path)}).table("other").columns
    assert column.dataset == "crossner-hou-news", "where nothing can be had the column stays as it is"
