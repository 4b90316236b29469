"""A corpus through a teacher: answers, annotations and a summary, the same bytes in whatever order answers came."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewtable.corpus import write_sentences
from fewtable.errors import DataError
from fewtable.files import digest, read_jsonl, write_json, write_jsonl
from fewtable.teachers import filters
from fewtable.teachers.budget import Estimate, at_most, dollars, expected_tokens, money
from fewtable.teachers.journal import NO_ROOM, Answer, Journal, no_room
from fewtable.teachers.parse import parse
from fewtable.teachers.prompts import messages
from fewtable.teachers.spec import PipelineSpec, TeacherSpec


@dataclass(frozen=True)
class Passage:
    """A passage of raw text; ``tokens`` as the student's tokenizer counts them."""

    id: str
    text: str
    tokens: int


@dataclass(frozen=True)
class Places:
    """Where the files of an annotation lie."""

    passages: Path
    journal: Path
    output: Path
    """A folder: answers.jsonl, annotations.jsonl, summary.json."""

    @classmethod
    def of(cls, teacher: str, corpus: str, results: Path = Path("results")) -> Places:
        """Return the places that the workflow uses."""
        return cls(
            results / "passages" / f"{corpus}.jsonl",
            results / "checkpoints" / "annotations" / teacher / corpus / "journal.jsonl",
            results / "annotations" / teacher / corpus,
        )


def read_passages(path: Path) -> list[Passage]:
    """Read a corpus; raise DataError with file:line on a malformed line or a repeated id."""
    out: dict[str, Passage] = {}
    for number, row in read_jsonl(path):
        try:
            passage = Passage(str(row["id"]), row["text"], int(row["tokens"]))
            if not isinstance(passage.text, str):
                raise TypeError("'text' is no string")
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"not a passage: {error!r}",
                where=f"{path}:{number}",
                fix='each line is {"id": ..., "text": ..., "tokens": ...}',
            ) from None
        if passage.id in out:
            raise DataError(f"two passages have the id '{passage.id}'", where=f"{path}:{number}")
        out[passage.id] = passage
    return list(out.values())


def key_of(spec: TeacherSpec, passage: str) -> str:
    """Return the key of a request: SHA-256 of the prompt, the model and all that can change its answer."""
    prompt = messages(spec.prompt, passage) if spec.endpoint else passage
    return digest([prompt, spec.identity])


def estimate(spec: TeacherSpec, places: Places) -> Estimate:
    """Return what an annotation would still cost, without a call."""
    passages = {key_of(spec, p.text): p for p in read_passages(places.passages)}
    answers: dict[str, Answer] = {}
    billed = (0, 0)
    if places.journal.exists():
        with Journal(places.journal) as journal:
            answers, billed = journal.answers, journal.billed
    left = [p for key, p in passages.items() if key not in answers]
    if spec.endpoint is None:
        return Estimate(len(left), len(passages) - len(left), (0, 0), (0, 0), None, None)
    most = [at_most(messages(spec.prompt, p.text), spec.endpoint.max_tokens) for p in left]
    return Estimate(
        len(left),
        len(passages) - len(left),
        expected_tokens(spec.prompt, [p.tokens for p in left], list(answers.values())),
        (sum(m[0] for m in most), sum(m[1] for m in most)),
        spec.endpoint.price,
        spec.endpoint.budget,
        dollars(spec.endpoint.price, billed),
    )


def annotate(spec: TeacherSpec, places: Places) -> dict[str, Any]:
    """Have a teacher annotate a corpus, and write answers, annotations and summary.

    What the journal answers is not asked again. Returns the summary.

    Raises:
        ConfigError, DataError, BudgetError: see client.ask_all, pipeline.Pipeline and write; the journal stays and goes
            on.
    """
    passages = read_passages(places.passages)
    keys = [key_of(spec, p.text) for p in passages]
    with Journal(places.journal) as journal:
        try:
            _ask(spec, passages, keys, journal)
            return write(spec, passages, [journal.answers[key] for key in keys], places.output)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise no_room(places.output, len(journal.answers)) from None


def _ask(spec: TeacherSpec, passages: Sequence[Passage], keys: Sequence[str], journal: Journal) -> None:
    from tqdm import tqdm

    texts = dict(zip(keys, (p.text for p in passages), strict=True))
    left = [key for key in texts if key not in journal.answers]
    if not left:
        return
    every = 0.5 if sys.stderr.isatty() else 60.0  # a bar for a person, a line a minute for a log
    done = len(texts) - len(left)
    with tqdm(total=len(texts), initial=done, unit="passage", mininterval=every, maxinterval=every, miniters=1) as bar:
        if spec.endpoint:
            from fewtable.teachers.client import Request, ask_all

            requests = [Request(key, messages(spec.prompt, texts[key])) for key in left]
            asyncio.run(ask_all(requests, spec.endpoint, journal, bar))
        else:
            assert spec.pipeline
            _pipe(spec.pipeline, texts, journal, bar)


def _pipe(spec: PipelineSpec, texts: dict[str, str], journal: Journal, bar: Any) -> None:
    """Run a pipeline over the batches that are not whole in the journal; cut from all texts, they are always alike."""
    from fewtable.teachers.pipeline import BATCH, Pipeline

    pipeline, keys = Pipeline(spec), list(texts)
    for start in range(0, len(keys), BATCH):
        batch = keys[start : start + BATCH]
        if all(key in journal.answers for key in batch):
            continue
        for key, answer in zip(batch, pipeline.answers([texts[key] for key in batch]), strict=True):
            if key not in journal.answers:
                journal.add(Answer(key, answer))
                bar.update()


def write(spec: TeacherSpec, passages: Sequence[Passage], answers: Sequence[Answer], folder: Path) -> dict[str, Any]:
    """Read the answers, filter their entities and write the three files; return the summary.

    Raises:
        DataError: no answer could be read; nothing is written.
    """
    dropped: Counter[str] = Counter()
    repairs: Counter[str] = Counter()
    outcome: Counter[str] = Counter()
    sentences = []
    for passage, answer in zip(passages, answers, strict=True):
        outcome["truncated"] += answer.finish == "length"
        parsed = parse(answer.answer)
        if answer.refused is not None or parsed.pairs is None:
            outcome["refused" if answer.refused is not None else "unparseable"] += 1
            continue
        outcome["read"] += 1
        repairs.update(parsed.repairs)
        dropped["malformed"] += parsed.malformed
        sentence = filters.annotate(passage.id, passage.text, parsed.pairs, dropped)
        if sentence.entities:
            sentences.append(sentence)
        else:
            outcome["without-entities"] += 1
    refusal = next((answer.refused for answer in answers if answer.refused is not None), None)
    if answers and not outcome["read"]:
        raise DataError(
            f"no answer to {len(answers):,} passages can be read: {_unread(outcome, refusal)}",
            where=str(folder),
            fix="look at the teacher's YAML (model, max_tokens, options); --retry-refused asks what was refused again",
        )
    write_jsonl(folder / "answers.jsonl", ({"id": p.id, **a.as_dict()} for p, a in zip(passages, answers, strict=True)))
    write_sentences(folder / "annotations.jsonl", sentences)
    asked = {answer.key: answer for answer in answers}.values()
    tokens = [sum(answer.tokens[i] for answer in asked) for i in (0, 1)]
    types = {entity.type for sentence in sentences for entity in sentence.entities}
    summary = {
        "teacher": spec.identity,
        "passages": {"read": len(passages), "kept": len(sentences)},
        "entities": sum(len(sentence.entities) for sentence in sentences),
        "types": len(types),
        "answers": {
            name: outcome[name] for name in ("read", "unparseable", "refused", "truncated", "without-entities")
        },
        "refusal": refusal,
        "repairs": dict(sorted(repairs.items())),
        "dropped": {cause: dropped[cause] for cause in ("malformed", *filters.CAUSES)},
        "tokens": {"input": tokens[0], "output": tokens[1]},
        "price": round(dollars(spec.endpoint.price if spec.endpoint else None, tokens), 6),
    }
    write_json(folder / "summary.json", summary)
    return summary


def summary_line(summary: dict[str, Any]) -> str:
    """Return the summary in one line: passages kept, entities, types, price; answers without use, entities dropped."""
    kept, read = summary["passages"]["kept"], summary["passages"]["read"]
    line = f"{kept:,} of {read:,} passages, {summary['entities']:,} entities of {summary['types']:,} types"
    line += f", {money(summary['price'])}" if summary["price"] else ""
    unread = _unread(summary["answers"], summary["refusal"])
    dropped = ", ".join(f"{count:,} {cause}" for cause, count in summary["dropped"].items() if count)
    return line + (f"; answers: {unread}" if unread else "") + (f"; entities dropped: {dropped}" if dropped else "")


def _unread(answers: Mapping[str, int], refusal: str | None) -> str:
    """Return how many answers were refused, with the first reason, unparseable and cut."""
    counted = {kind: f"{answers[kind]:,} {kind}" for kind in ("refused", "unparseable", "truncated") if answers[kind]}
    if "refused" in counted:
        counted["refused"] += f" (the first: {refusal})"
    return ", ".join(counted.values())
