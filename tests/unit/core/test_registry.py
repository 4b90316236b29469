"""Config errors say what, where and how to mend it; names resolve; specs are strict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewtable.check import check, check_user
from fewtable.errors import ConfigError, FewtableError
from fewtable.plan import Plan
from fewtable.registry import KINDS, Registry, deep_merge, find_module, read_yaml, user_config


@pytest.fixture
def config(tmp_path: Path) -> Path:
    for kind in ("datasets", "settings", "methods", "backbones", "tables"):
        (tmp_path / kind).mkdir()
    (tmp_path / "backbones" / "none.yaml").write_text("title: none\nkind: none\n")
    return tmp_path


def test_unknown_name_says_what_was_meant(config: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Registry(config).backbone("nonne")
    assert "unknown backbone 'nonne'" in str(caught.value)
    assert "did you mean 'none'?" in str(caught.value)


def test_unknown_key_names_file_and_key(config: Path) -> None:
    (config / "backbones" / "x.yaml").write_text("title: x\nkind: none\nrevison: abc\n")
    with pytest.raises(ConfigError) as caught:
        Registry(config).backbone("x")
    assert "backbones/x.yaml:revison" in str(caught.value)
    assert "did you mean 'revision'?" in str(caught.value)


def test_a_misspelt_key_is_named_before_the_missing_one(config: Path) -> None:
    (config / "backbones" / "x.yaml").write_text("titel: x\nkind: none\n")
    with pytest.raises(ConfigError) as caught:
        Registry(config).backbone("x")
    assert "x.yaml:titel" in str(caught.value) and "did you mean 'title'?" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "text", "where", "meant"),
    [
        ("datasets", "types: {STREET: {word: street, definition: a road}}", "types.STREET.word", "words"),
        ("backbones", "kind: causal\ngguf: {packge: x, path: y, sha256: z}", "gguf.packge", "package"),
        (
            "methods",
            "family: tagger\nformat: {name: bio}\nwhen: [{seting: [full], set: {}}]",
            "when.0.seting",
            "setting",
        ),
    ],
)
def test_a_misspelt_key_inside_a_key_finds_the_nearest(
    config: Path, kind: str, text: str, where: str, meant: str
) -> None:
    (config / kind / "own.yaml").write_text(f"title: own\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        Registry(config).get(kind, "own", KINDS[kind])
    assert f"own.yaml:{where}" in str(caught.value) and f"did you mean '{meant}'?" in str(caught.value)


def test_bad_yaml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\nb: [1, 2\nc: 3\n")
    with pytest.raises(ConfigError, match=r"x\.yaml:3: not YAML"):
        read_yaml(path)
    path.write_text("- 1\n")
    with pytest.raises(ConfigError, match="must hold a mapping"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: 1\nb: \x01\n", "x.yaml:2: not YAML"),
        ("a: 1\n# ü\nb: ü\n".encode("latin-1"), "x.yaml:2: not UTF-8"),
        (b"a: 2020-13-45\n", "x.yaml: not YAML: month must be in 1..12"),
    ],
)
def test_bytes_that_are_no_text_are_said(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path / "x.yaml")
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "# all left out\n", "---\n"])
def test_an_empty_file_is_an_empty_mapping(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    assert read_yaml(tmp_path / "x.yaml") == {}
    assert user_config(read_yaml(tmp_path / "x.yaml")).tables == ("demo",)


@pytest.mark.parametrize(
    ("value", "where", "fix"),
    [
        ({"overrides": {"lc-brt": {"train": {}}}}, "overrides: unknown method 'lc-brt'", "'lc-bert'"),
        ({"draws": {"10-shott": 5}}, "draws: unknown setting '10-shott'", "'10-shot'"),
        ({"licensed": {"ontonote5": "x"}}, "licensed: unknown dataset 'ontonote5'", "'ontonotes5'"),
        ({"tables": ["dmo"]}, "tables: unknown table 'dmo'", "'demo'"),
    ],
)
def test_misspelt_names_in_the_users_config_are_said(root: Path, value: dict[str, Any], where: str, fix: str) -> None:
    plan = Plan(Registry(root / "config"), value)
    with pytest.raises(ConfigError) as caught:
        check_user(plan.registry, plan.user)
    assert f"config/config.yaml:{where}" in str(caught.value) and f"did you mean {fix}?" in str(caught.value)
    assert str(caught.value) in check(plan).errors


def test_the_config_that_ships_has_no_misspelt_name(root: Path) -> None:
    check_user(Registry(root / "config"), user_config(read_yaml(root / "config" / "config.yaml")))


def test_extends_lays_one_file_over_another(config: Path) -> None:
    (config / "backbones" / "_base.yaml").write_text("title: base\nkind: encoder\nhub: a/b\nrevision: c\n")
    (config / "backbones" / "x.yaml").write_text("extends: _base\ntitle: x\n")
    registry = Registry(config)
    assert registry.backbone("x").hub == "a/b"
    assert registry.backbone("x").title == "x"
    assert "_base" not in registry.names("backbones")


def test_extends_in_a_circle_and_of_nothing(config: Path) -> None:
    (config / "backbones" / "a.yaml").write_text("extends: b\n")
    (config / "backbones" / "b.yaml").write_text("extends: a\n")
    with pytest.raises(ConfigError, match="circle"):
        Registry(config).backbone("a")
    (config / "backbones" / "a.yaml").write_text("extends: nothing\n")
    with pytest.raises(ConfigError, match="extends unknown 'nothing'"):
        Registry(config).backbone("a")


def test_user_config_is_strict() -> None:
    with pytest.raises(ConfigError, match="draws"):
        user_config({"draws": {"10-shot": 0}})
    with pytest.raises(ConfigError) as caught:
        user_config({"mirrr": "x"})
    assert "did you mean 'mirror'?" in str(caught.value)


def test_find_module_says_what_there_is() -> None:
    assert find_module("formats", "bio", "here").FORMAT is not None
    with pytest.raises(FewtableError) as caught:
        find_module("formats", "bioo", "config/methods/x.yaml:format.name")
    assert "config/methods/x.yaml:format.name: unknown format 'bioo'" in str(caught.value)


def test_deep_merge_replaces_lists_and_merges_mappings() -> None:
    assert deep_merge({"a": {"b": 1, "c": [1]}, "d": 1}, {"a": {"c": [2]}}) == {"a": {"b": 1, "c": [2]}, "d": 1}


def test_the_projects_own_config_is_valid(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fewtable.check import check
    from fewtable.plan import Plan

    monkeypatch.chdir(root)
    found = check(Plan(Registry(Path("config")), read_yaml(Path("config/config.yaml"))))
    assert found.errors == []
    assert found.counts["datasets"] >= 32


def test_a_table_and_a_figure_of_one_name_are_an_error(config: Path) -> None:
    for kind in ("tables", "figures"):
        (config / kind / "paper").mkdir(parents=True)
    (config / "tables/paper/one.yaml").write_text("title: T\nrows: []\ncolumns: []\n")
    registry = Registry(config)
    assert registry.names("tables") == ("paper/one",) and registry.table("paper/one").title == "T"
    part = "[{id: a, title: A, dataset: d, setting: s, method: m, backbone: b}]"
    empty = "[{id: a, title: A}]"
    figure = f"title: F\nkind: lines\nx: X\npanels: {part}\nseries: {empty}\npoints: {empty}\n"
    (config / "figures/paper/one.yaml").write_text(figure)
    errors = check(Plan(Registry(config), {})).errors
    assert any("figures/paper/one.yaml: 'paper/one' stands under tables too" in error for error in errors)


def test_only_what_is_a_target_by_name_may_lie_in_a_folder(config: Path) -> None:
    (config / "methods/paper").mkdir()
    (config / "methods/paper/m.yaml").write_text("title: M\n")
    (config / "tables/a/b").mkdir(parents=True)
    (config / "tables/a/b/c.yaml").write_text("title: T\nrows: []\ncolumns: []\n")
    assert Registry(config).names("methods") == Registry(config).names("tables") == ()
