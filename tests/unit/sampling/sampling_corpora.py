"""Small corpora for the sampler tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from hypothesis import strategies as st

from fewtable.corpus import Entity, Sentence, sentence_id, tags_to_entities
from fewtable.specs import DrawSpec, QuerySpec, SamplerSpec

TYPES = ("a", "b", "c")


def sentence(index: int, counts: Mapping[str, int], split: str = "train") -> Sentence:
    """A sentence with the given mentions, a plain word before each, and a number word of its own."""
    words, entities = [f"w{index}"], []
    for kind in sorted(counts):
        for _ in range(counts[kind]):
            entities.append(Entity(len(words), len(words) + 1, kind))
            words += [kind.upper(), "."]
    return Sentence(sentence_id(split, index), tuple(words), tuple(entities))


def corpus(rows: Iterable[Mapping[str, int]], split: str = "train") -> list[Sentence]:
    return [sentence(index, row, split) for index, row in enumerate(rows)]


def corpora(size: int = 12, most: int = 3) -> st.SearchStrategy[list[Sentence]]:
    """Corpora in which every type has a mention."""
    row = st.dictionaries(st.sampled_from(TYPES), st.integers(1, most), max_size=3)
    rows = st.lists(row, min_size=1, max_size=size).filter(lambda r: {t for c in r for t in c} == set(TYPES))
    return rows.map(corpus)


def setting(rule: str, support: str = "train", limit: int | None = None, **shots: object) -> DrawSpec:
    sampler = SamplerSpec.model_validate({"rule": rule, **shots})
    return DrawSpec(sampler=sampler, support=support, query=QuerySpec(limit=limit))


def mentions(sentences: Iterable[Sentence], ids: Iterable[str]) -> Counter[str]:
    index = {s.id: s for s in sentences}
    return Counter(e.type for i in ids for e in index[i].entities)


def column_file(path: Path, split: str, token: int, tag: int, scheme: str = "iob2") -> list[Sentence]:
    """Read a two-column corpus file of the mirror."""
    found: list[Sentence] = []
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        rows = [line.split("\t") for line in block.splitlines() if "\t" in line]
        if rows:
            tags = [row[tag] for row in rows]
            entities = tuple(sorted(tags_to_entities(tags, scheme)))  # type: ignore[arg-type]
            found.append(Sentence(sentence_id(split, len(found)), tuple(r[token] for r in rows), entities))
    return found
