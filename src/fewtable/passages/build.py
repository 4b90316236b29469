"""A corpus's passages: read, cut, filtered, drawn; and the counts of what was left out, by cause."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tqdm import tqdm

from fewtable.corpus import sentence_id
from fewtable.errors import DataError
from fewtable.files import write_json, write_jsonl
from fewtable.passages.count import Count, tokens, words
from fewtable.passages.cut import Passage, cut
from fewtable.passages.draw import Draw
from fewtable.passages.language import english
from fewtable.passages.read import documents
from fewtable.passages.spec import WORDS, PassagesJob, PassagesSpec
from fewtable.registry import validate

CAUSES = ("too_short", "not_english", "duplicate", "not_drawn")
"""Why a passage is left out, in the order asked."""


def read_passages_job(text: str) -> PassagesJob:
    """Read a job's ``--spec``."""
    return validate(PassagesJob, json.loads(text), "--spec")


def counter(spec: PassagesSpec, backbone: Path | None) -> Count:
    """Return what measures a corpus's passages; ``backbone`` is the folder of the one that ``tokens`` names.

    Raises:
        DataError: the folder is needed and not given, or has no tokenizer.
    """
    if spec.tokens == WORDS:
        return words
    if backbone is None:
        raise DataError(f"'{spec.tokens}' counts the tokens, and its folder is not given", fix="give --backbone")
    return tokens(backbone)


def build(spec: PassagesSpec, data: Path, count: Count) -> tuple[list[Passage], dict[str, int]]:
    """Draw the passages of a corpus, in one pass and the memory of what is drawn.

    Only passages whose number is small enough to be drawn are asked for their language and for duplicates, which
    gives the same draw: of ``not_english`` and ``duplicate`` the counts are of those, unless all are drawn.

    Args:
        spec: sources, lengths, filters, size and seed.
        data: the folder of the datasets' normalised splits.
        count: measures texts.

    Returns:
        The passages, in random order, and the counts: documents, passages, each of CAUSES, kept (passages = the
        sum of the causes and kept), cut_hard (of all passages) and tokens (of those kept).

    Raises:
        ConfigError, DataError: as ``documents``; or no passage is left.
    """
    draw: Draw[Passage] = Draw(spec.passages, spec.seed)
    is_english = english() if spec.english else lambda text: True
    tally = dict.fromkeys(("documents", "passages", "cut_hard", *CAUSES), 0)
    found = (document for source in spec.sources for document in documents(source, data))
    for document in tqdm(found, unit=" documents", disable=not sys.stderr.isatty()):
        tally["documents"] += 1
        for passage in cut(document, count, spec.max_tokens):
            tally["passages"] += 1
            tally["cut_hard"] += passage.hard
            number = draw.number(passage.text)
            if passage.tokens < spec.min_tokens:
                tally["too_short"] += 1
            elif not draw.wants(number):
                tally["not_drawn"] += 1
            elif number in draw:
                tally["duplicate"] += 1
            elif not is_english(passage.text):
                tally["not_english"] += 1
            else:
                tally["not_drawn"] += draw.add(number, passage)
    kept = draw.drawn()
    tally |= {"kept": len(kept), "tokens": sum(passage.tokens for passage in kept)}
    if not kept:
        raise DataError(
            f"no passage is left of {tally['documents']:,} documents: "
            + ", ".join(f"{tally[cause]:,} {cause.replace('_', ' ')}" for cause in CAUSES[:3]),
            fix="look at the sources, min_tokens and english in the corpus's YAML",
        )
    return kept, tally


def write(target: Path, passages: list[Passage], tally: dict[str, int]) -> None:
    """Write passages as JSON lines {id, text, tokens}, and the counts beside them as ``NAME.summary.json``."""
    write_json(target.with_suffix(".summary.json"), tally)
    write_jsonl(
        target,
        ({"id": sentence_id("passage", i), "text": p.text, "tokens": p.tokens} for i, p in enumerate(passages)),
    )
