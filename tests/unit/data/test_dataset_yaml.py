"""Every YAML of config/datasets: valid, described for people and models, pinned, and true to the real files."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from fewtable.data.fetch import fetch
from fewtable.data.normalise import normalise
from fewtable.registry import Registry, find_module, read_yaml, validate
from fewtable.specs import DatasetSpec, FileSpec

DATASETS = Path(__file__).resolve().parents[3] / "config" / "datasets"
NAMES = sorted(p.stem for p in DATASETS.glob("*.yaml") if not p.stem.startswith("_"))
CODE_HOSTS = ("raw.githubusercontent.com", "github.com", "gitlab.com", "huggingface.co")
HOU = {
    "news": "conll",
    "wiki": "gum",
    "social": "wnut17",
    "mixed": "ontonotes",
}
WAYS = ("human", "human-being", "individual", "name-of-a-person", "people-mentioned", "person")
"""How CoNLLpp's persons are asked for."""
LICENSED = {
    "ace04",
    "ace05",
    "i2b2-2006-deid",
    "i2b2-2010-concepts",
    "i2b2-2012-temporal",
    "i2b2-2014-deid",
    "n2c2-2018-task2",
    "ontonotes5",
    "share-clef",
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(DATASETS.parent)


@pytest.fixture(scope="module")
def manifest(mirror: Path) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = json.loads((mirror / "MANIFEST.json").read_text())["files"]
    return files


def base_types(name: str) -> list[str]:
    return list(read_yaml(DATASETS / f"_{name}-types.yaml")["types"])


@pytest.mark.parametrize("name", NAMES)
def test_is_valid_with_the_reader_s_own_options(registry: Registry, name: str) -> None:
    spec = registry.dataset(name)
    validate(find_module("data.readers", spec.reader, name).Options, spec.options, name)
    assert bool(spec.types) != spec.open_types and spec.splits
    if "files" in read_yaml(DATASETS / f"{name}.yaml"):  # what extends a dataset may leave some of its files alone
        assert {f for split in spec.splits.values() for f in split.files} == set(spec.files)
    assert not set(spec.rename) & set(spec.drop)
    assert set(spec.rename.values()) <= set(spec.types)


@pytest.mark.parametrize("name", NAMES)
def test_words_and_definitions_fit_every_method(registry: Registry, name: str) -> None:
    spec = registry.dataset(name)
    for key, kind in spec.types.items():
        assert kind.words == kind.words.lower().strip() and not set(kind.words) & set("_.,:;\n"), key
        text = kind.definition
        assert text.endswith(".") and text[:-1].count(". ") == 0 and not re.search(r"[!?\n]|\.\.", text), key
        assert text[0].isupper() and 8 <= len(text.split()) <= 40, key
        assert not re.search(r"\b[BI]-[A-Z]|\btags?\b|\btokens?\b", text), f"{key}: words of a format"
    if spec.reader != "hou-episodes" and not spec.mixture:
        doubled = [w for w, n in Counter(k.words for k in spec.types.values()).items() if n > 1]
        assert not doubled


@pytest.mark.parametrize("domain", sorted(HOU))
def test_hou_s_types_are_those_of_its_corpora_with_words_unique_in_each(registry: Registry, domain: str) -> None:
    spec = registry.dataset(f"crossner-hou-{domain}")
    names = base_types(HOU[domain])
    assert set(names) <= set(spec.types)
    words = [spec.types[n].words for n in names]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize("name", NAMES)
def test_sources_are_https_and_pinned(registry: Registry, name: str) -> None:
    spec = registry.dataset(name)
    for key, file in spec.files.items():
        for source in file.sources:
            if source.url:
                parts = urlsplit(source.url)
                assert parts.scheme == "https", key
                if parts.hostname in CODE_HOSTS:
                    assert re.search(r"/[0-9a-f]{40}/", parts.path), f"{key} is not pinned to a commit"
            if source.hub:
                assert re.fullmatch(r"[0-9a-f]{40}", source.hub.revision), key
            if source.package:
                assert file.sha256, key


def test_licensed_corpora_say_how_to_get_them_and_open_ones_where_they_are(registry: Registry) -> None:
    specs = {name: registry.dataset(name) for name in NAMES}
    assert {name for name, spec in specs.items() if spec.access == "licensed"} == LICENSED
    for name in LICENSED:
        spec = specs[name]
        assert not any(f.sources or f.sha256 for f in spec.files.values())
        obtain = spec.obtain or ""
        for file in spec.files.values():
            assert file.mirror is None or file.mirror.split("/")[0] in obtain
        if spec.reader != "conll2012":
            assert all(f in obtain for f in spec.files)
    for spec in specs.values():
        for key, file in spec.files.items():
            if spec.access == "open" and not file.sources:
                assert file.mirror and file.mirror.split("/")[0] in (spec.obtain or ""), key


def test_number_of_types_is_the_corpora_s() -> None:
    counts = {n: len(Registry(DATASETS.parent).dataset(n).types) for n in NAMES}
    expected = {
        "atis": 83,
        "fewnerd": 66,
        "fewnerd-inter": 66,
        "fewnerd-intra": 66,
        "gum-2017": 11,
        "wnut17": 6,
        "wnut16": 10,
        "wnut16-demo": 10,
        "ontonotes5": 18,
        "ace05": 7,
        "i2b2-2006-deid": 8,
        "i2b2-2010-concepts": 3,
        "i2b2-2012-temporal": 6,
        "i2b2-2014-deid": 23,
        "n2c2-2018-task2": 9,
        "share-clef": 1,
        "mit-movie": 12,
        "mit-restaurant": 8,
        "conll2003": 4,
        # UniversalNER, Table 6
        "conllpp-uniner": 3,
        "crossner-ai-uniner": 13,
        "crossner-literature-uniner": 11,
        "crossner-music-uniner": 12,
        "crossner-politics-uniner": 8,
        "crossner-science-uniner": 16,
        "fewnerd-coarse": 7,
        "fewnerd-fine": 59,
        "polyglot-ner-en": 3,
        "wikineural-en-uniner": 3,
        "biored": 6,
        "bc4chemd": 1,
        "ebmnlp": 3,
        "deal": 30,
        "fabner": 12,
        "sofc": 3,
        "scierc-uniner": 4,
        "scirex": 4,
        "somesci": 14,
        "wlp": 16,
        "e-ner": 6,
        "find-vehicle": 21,
    }
    assert {n: counts[n] for n in expected} == expected


def test_table_6_of_universalner_names_its_datasets_by_the_paper_s_domains(registry: Registry) -> None:
    """49 rows of 43 datasets: CrossNER, Few-NERD and MAPA count once. The 20 of Table 2 are among them."""
    rows = registry.statistics("universalner/table6").rows
    assert Counter(row.group for row in rows) == {
        **{"General": 16, "Biomed": 8, "Clinics": 7, "STEM": 7, "Programming": 1, "Social media": 5},
        **{"Law": 3, "Finance": 1, "Transportation": 1},
    }
    names = [row.dataset for row in rows]
    assert len(set(names)) == 49 and set(names) <= set(NAMES)
    assert len({re.sub(r"^(crossner|fewnerd|mapa)-.*", r"\1", name) for name in names}) == 43
    supervised = {
        *(
            "ace05",
            "anatem",
            "bc2gm",
            "bc4chemd",
            "bc5cdr",
            "broad-twitter",
            "conllpp-uniner",
            "fabner",
            "find-vehicle",
        ),
        *("genia-nested", "harveyner", "mit-movie-uniner", "mit-restaurant-uniner", "multinerd-en", "ncbi-disease"),
        *("ontonotes5", "polyglot-ner-en", "tweetner7-uniner", "wikiann-en", "wikineural-en-uniner"),
    }
    assert len(supervised) == 20 and supervised <= set(names)
    misc = {"miscellaneous", "misc", "other", "else"}
    assert not [name for name in names for kind in registry.dataset(name).types.values() if kind.words in misc]


@pytest.mark.shared
def test_each_folder_has_its_yaml_with_the_manifest_s_checksums(
    registry: Registry, manifest: list[dict[str, Any]]
) -> None:
    known = {f["path"]: f["sha256"] for f in manifest}
    named: dict[str, set[str]] = {}
    for name in NAMES:
        for file in registry.dataset(name).files.values():
            if file.mirror in known:
                assert file.sha256 == known[file.mirror], file.mirror
                named.setdefault(file.mirror, set()).add(name)
    annotated = {f["path"] for f in manifest if f.get("entities") is not None}
    assert annotated <= set(named)
    folders = {f["dataset"].replace("_", "-") for f in manifest}
    assert folders - {"conll2003"} <= set(NAMES) and len(folders) == 32
    assert "conll2003-crossner" in named["conll2003/train.txt"]


@pytest.mark.shared
def test_every_type_of_the_real_files_is_covered_and_none_is_idle(
    registry: Registry, manifest: list[dict[str, Any]]
) -> None:
    found = {f["path"]: set(f["entities_per_type"]) for f in manifest if f.get("entities_per_type")}
    for name in NAMES:
        spec = registry.dataset(name)
        raw: set[str] = set()
        for file in spec.files.values():
            raw |= found.get(file.mirror or "", set())
        if not raw:
            continue
        assert not raw - set(spec.types) - set(spec.rename) - set(spec.drop), name
        idle = set(spec.types) - {spec.rename.get(r, r) for r in raw}
        assert not idle or name in ("fewnerd-inter", "fewnerd-inter-open"), f"{name}: {sorted(idle)} occur in no file"


@pytest.mark.shared
def test_demo_s_file_from_the_package_is_the_corpus_own_file(registry: Registry, mirror: Path, tmp_path: Path) -> None:
    file = registry.dataset("wnut16-demo").files["train.conll"]
    assert file.sha256 == registry.dataset("wnut16").files["train.conll"].sha256
    package = [s.package for s in file.sources if s.package]
    order = [int(i) for i in (package[0].order or "").split()]
    assert sorted(order) == list(range(2394))
    got = fetch("train.conll", "wnut16-demo", FileSpec(sha256=file.sha256, mirror=file.mirror), tmp_path / "f", mirror)
    assert got.size == 354162


@pytest.mark.shared
def test_demo_s_split_is_a_partition_without_shared_tweets(registry: Registry, mirror: Path) -> None:
    spec = registry.dataset("wnut16-demo")
    raw = {"train.conll": mirror / "wnut16/train.conll"}
    parts = {split: normalise("wnut16-demo", spec, split, raw) for split in ("train", "test")}
    texts = {split: {" ".join(s.words).lower() for s in found} for split, found in parts.items()}
    assert not texts["train"] & texts["test"]
    assert sum(map(len, parts.values())) == 2394
    for found in parts.values():
        mentions = Counter(e.type for s in found for e in s.entities)
        assert min(mentions[t] for t in spec.types) >= 9


def test_splits_by_hash_cover_the_file_once(registry: Registry) -> None:
    seen = []
    for name in NAMES:
        spec: DatasetSpec = registry.dataset(name)
        bounds = sorted((s.part.low, s.part.high) for s in spec.splits.values() if s.part)
        if bounds:
            seen.append(name)
            assert bounds[0][0] == 0 and bounds[-1][1] == 1
            assert all(a[1] == b[0] for a, b in pairwise(bounds))
            assert spec.open_types or "SHA-256" in (spec.note or "")
    paraphrases = sorted(f"conllpp-as-{way}" for way in WAYS)
    domains = ("mixed", "news", "social", "wiki")
    sources = [f"crossner-{which}{domain}-source" for which in ("hou-", "") for domain in domains]
    assert seen == [
        *("common-pile-gpt-4o-mini", "common-pile-gpt-4o-mini-definition", *paraphrases, *sources),
        *("e-ner", "find-vehicle"),
        *("mit-movie-uniner", "mit-restaurant-uniner", "open-sentences-spacy", "polyglot-ner-en"),
        *("tasteset", "wikigold", "wnut16-demo"),
    ]
