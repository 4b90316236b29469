"""How big a dataset is: sentences, tokens and entities by split and type, as text too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fewtable.corpus import Sentence
from fewtable.registry import Registry
from fewtable.specs import DatasetSpec, UserConfig


@dataclass(frozen=True, slots=True)
class SplitStats:
    """Counts of one split; ``types`` in the order of the dataset's YAML, types without entities too."""

    split: str
    sentences: int
    tokens: int
    entities: int
    without_entity: int
    """Sentences without any entity."""
    nested: int
    """Entities that overlap another one of their sentence."""
    types: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as a JSON value."""
        return asdict(self)


def split_stats(split: str, sentences: Sequence[Sentence], types: Iterable[str]) -> SplitStats:
    """Count a split's sentences, tokens and entities."""
    counts = Counter(e.type for s in sentences for e in s.entities)
    return SplitStats(
        split=split,
        sentences=len(sentences),
        tokens=sum(len(s.words) for s in sentences),
        entities=sum(counts.values()),
        without_entity=sum(not s.entities for s in sentences),
        nested=sum(_overlapping(s) for s in sentences),
        types={name: counts[name] for name in types},
    )


def _overlapping(sentence: Sentence) -> int:
    entities = sentence.entities
    if len(entities) < 2:
        return 0
    return sum(any(o is not e and o.start < e.end and e.start < o.end for o in entities) for e in entities)


def render_stats(dataset: str, title: str, stats: Sequence[SplitStats]) -> str:
    """Return the counts as text: a line a split, then a line a type with a column a split."""
    rows = [["", *(s.split for s in stats)]]
    for label, key in (
        ("sentences", "sentences"),
        ("tokens", "tokens"),
        ("entities", "entities"),
        ("without entity", "without_entity"),
        ("nested entities", "nested"),
    ):
        rows.append([label, *(f"{getattr(s, key):,}" for s in stats)])
    names = stats[0].types if stats else {}
    rows += [[f"  {name}", *(f"{s.types[name]:,}" for s in stats)] for name in names]
    return f"{dataset}: {title}\n" + _columns(rows)


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of ``fewtable data list``."""

    dataset: str
    domain: str
    types: int
    splits: tuple[str, ...]
    access: str
    """open, licensed (no folder set), or licensed: FOLDER."""
    fetched: int
    """Raw files that are there."""
    files: int
    licence: str


def list_datasets(registry: Registry, user: UserConfig, raw: Path = Path("results/raw")) -> list[Listed]:
    """Return a line for each dataset: what it is, and how many of its raw files are under ``raw``."""
    out = []
    for name in registry.names("datasets"):
        spec = registry.dataset(name)
        out.append(
            Listed(
                dataset=name,
                domain=spec.domain,
                types=len(spec.types),
                splits=tuple(spec.splits),
                access=_access(name, spec, user.licensed),
                fetched=sum((raw / name / file).exists() for file in spec.files),
                files=len(spec.files),
                licence=spec.licence,
            )
        )
    return out


def _access(name: str, spec: DatasetSpec, licensed: Mapping[str, str | None]) -> str:
    if spec.access == "open":
        return "open"
    folder = licensed.get(name)
    return f"licensed: {folder}" if folder else "licensed (no folder set)"


def render_list(listed: Sequence[Listed]) -> str:
    """Return the datasets as text, one a line under a head line."""
    rows = [["dataset", "domain", "types", "fetched", "splits", "access", "licence"]]
    for item in listed:
        licence = item.licence if len(item.licence) <= 40 else item.licence[:39] + "…"
        fetched = f"{item.fetched}/{item.files}"
        row = [item.dataset, item.domain, str(item.types), fetched, " ".join(item.splits), item.access, licence]
        rows.append(row)
    return _columns(rows, right=(2, 3))


def _columns(rows: Sequence[Sequence[str]], right: Sequence[int] | None = None) -> str:
    """Return rows as aligned text; ``right``: the columns set to the right (all but the first when None)."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    aligned = range(1, len(widths)) if right is None else right
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if i in aligned else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
