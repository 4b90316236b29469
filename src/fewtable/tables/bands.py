"""Entity types by frequency band: which types a teacher wrote how often, beside a paper's table of the same."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewtable.corpus import Sentence, read_sentences
from fewtable.layouts import BANDS, BandsSpec
from fewtable.registry import validate
from fewtable.tables.text import csv_number, grid, md_escape

EXAMPLES = 10
"""Types shown of each band, as in UniversalNER's Table 1."""
CSV_COLUMNS = ("band", "title", "types", "share", "printed", "delta", "examples", "printed_examples")


@dataclass(frozen=True)
class Band:
    """A band: its types by falling frequency, and their share of all entities in percent."""

    id: str
    title: str
    types: tuple[str, ...]
    share: float


def bands(sentences: Iterable[Sentence]) -> list[Band]:
    """Return the bands of annotated passages (UniversalNER section 3.1, Table 1).

    Types are ordered by their number of entities, ties by name. The first band is the most frequent 1 % of the types,
    at least one; the second goes up to 10 %; the third holds the rest.
    """
    counts = Counter(entity.type for sentence in sentences for entity in sentence.entities)
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    total, start, out = sum(counts.values()), 0, []
    for identity, (title, upper) in BANDS.items():
        end = max(start, round(upper * len(ordered)), min(1, len(ordered)))
        types = tuple(ordered[start:end])
        share = 100 * sum(counts[name] for name in types) / total if total else 0.0
        out.append(Band(identity, title, types, share))
        start = end
    return out


def from_params(params: Mapping[str, Any], results: Path) -> tuple[BandsSpec, list[Band]]:
    """Read what the plan's params describe: name, bands (the spec)."""
    spec = validate(BandsSpec, params["bands"], f"bands {params['name']}")
    return spec, bands(read_sentences(results / "annotations" / spec.teacher / spec.corpus / "annotations.jsonl"))


def render_csv(spec: BandsSpec, found: Sequence[Band]) -> str:
    """Return the bands as CSV, one line a band."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for band in found:
        printed = spec.printed.share[band.id] if spec.printed else None
        delta = None if printed is None else band.share - printed
        theirs = spec.printed.types[band.id] if spec.printed else ()
        numbers = map(csv_number, (band.share, printed, delta))
        writer.writerow(
            [band.id, band.title, len(band.types), *numbers, "; ".join(band.types[:EXAMPLES]), "; ".join(theirs)]
        )
    return stream.getvalue()


def render_md(spec: BandsSpec, found: Sequence[Band]) -> str:
    """Return the bands as GitHub Markdown, the printed shares in square brackets."""
    rows = []
    for band in found:
        share = f"{band.share:.1f} %" + (f" [{spec.printed.share[band.id]:g} %]" if spec.printed else "")
        theirs = ", ".join(spec.printed.types[band.id]) if spec.printed else ""
        examples = ", ".join(band.types[:EXAMPLES])
        rows.append([md_escape(text) for text in (band.title, f"{len(band.types):,}", share, examples, theirs)])
    under = f"Annotated by {spec.teacher}, passages of {spec.corpus}."
    if spec.printed:
        under += f" In square brackets and on the right: {spec.printed.source}."
    parts = [f"# {md_escape(spec.title)}", md_escape(spec.caption.strip())]
    table = grid(["Types", "Number", "Share of entities", "Most frequent", "Most frequent, printed"], rows)
    return "\n\n".join([*filter(None, parts), table, md_escape(under)]) + "\n"
