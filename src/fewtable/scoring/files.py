"""Scoring of files that people have: CoNLL-style columns, sentence JSONL, prediction JSONL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewtable.corpus import Entity, Scheme, tags_to_entities
from fewtable.errors import ConfigError, DataError, did_you_mean
from fewtable.files import read_jsonl
from fewtable.scoring.block import as_json
from fewtable.scoring.mentions import Counts, Frame, Mentions, count, count_types
from fewtable.scoring.overlap import boundary_rates, match
from fewtable.scoring.peers import PEERS, FewNerd, Scored, peer_counts
from fewtable.scoring.tags import CHUNK_RULES, tag_mentions

SCORERS = ("strict", "span", "partial", *PEERS)
"""What ``fewtable score --scorer`` takes."""


@dataclass(frozen=True, slots=True)
class Read:
    """A sentence of a file. ``words`` is None in prediction JSONL, ``tags`` in all JSONL; ``where`` is file:line."""

    where: str
    words: tuple[str, ...] | None
    tags: tuple[str, ...] | None
    entities: tuple[Entity, ...]
    key: tuple[int, str] | None = None
    """(draw, id) of a JSONL row; draw 0 where the row has none."""


def read_scored(path: Path, scheme: Scheme | None = "iob2") -> list[Read]:
    """Read a file to be scored.

    Column files have one word a line, the word in the first column and the tag in the last, separated by tabs (then
    words may hold spaces) or by spaces; a blank line or a ``-DOCSTART-`` line ends a sentence.

    Args:
        path: columns, or JSONL of sentences {id, words, entities} or of predictions {draw, id, entities}.
        scheme: of the tags; None leaves tags unread and gives no entities.

    Raises:
        DataError: the file is missing, empty or not UTF-8, or a line is malformed (file:line).
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError("file not found", where=str(path)) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError("not UTF-8", where=f"{path}:{line}", fix="convert the file with iconv") from None
    found = _read_rows(path) if _is_jsonl(text) else _read_columns(path, text, scheme)
    if not found:
        raise DataError("no sentence in the file", where=str(path))
    return found


def _is_jsonl(text: str) -> bool:
    """Tell JSONL by its first line: a JSON object (a word ``{`` with its tag is none)."""
    try:
        return isinstance(json.loads(text.lstrip().split("\n", 1)[0]), dict)
    except ValueError:
        return False


def _read_rows(path: Path) -> list[Read]:
    out = []
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        try:
            words = tuple(map(str, row["words"])) if "words" in row else None
            entities = tuple(Entity(int(s), int(e), str(t)) for s, e, t in row["entities"])
            key = (int(row.get("draw", 0)), str(row["id"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"neither a sentence nor a prediction: {error!r}",
                where=where,
                fix='each line is {"id": ..., "words": [...], "entities": [[start, end, type], ...]}',
            ) from None
        out.append(Read(where, words, None, entities, key))
    return out


def _read_columns(path: Path, text: str, scheme: Scheme | None) -> list[Read]:
    out: list[Read] = []
    words: list[str] = []
    tags: list[str] = []
    first = 0
    # str.splitlines would also break at U+2028, U+0085 and others, which occur inside words
    for number, line in enumerate((*text.split("\n"), ""), 1):
        line = line.removesuffix("\r")
        if not line.strip(" \t") or line.startswith("-DOCSTART-"):
            if words:
                entities = tags_to_entities(tags, scheme) if scheme else ()
                out.append(Read(f"{path}:{first}", tuple(words), tuple(tags), entities))
                words, tags = [], []
            continue
        columns = line.split("\t") if "\t" in line else line.rstrip(" ").split(" ")
        if len(columns) < 2 or not columns[-1]:
            raise DataError(
                f"a line without a tag: {line!r}",
                where=f"{path}:{number}",
                fix="each line is WORD ... TAG, separated by tabs or spaces",
            )
        if scheme:
            _check_tag(columns[-1], scheme, f"{path}:{number}")
        first = first if words else number
        words.append(columns[0])
        tags.append(columns[-1])
    return out


def _check_tag(tag: str, scheme: Scheme, where: str) -> None:
    allowed = "BIES" if scheme == "bioes" else "BI"
    if tag == "O" or scheme == "io" or (tag[0] in allowed and tag[1:2] == "-" and len(tag) > 2):
        return
    hint = "bioes" if tag[:2] in ("E-", "S-") else "io"
    raise DataError(
        f"tag '{tag}' is not of scheme {scheme}",
        where=where,
        fix=f"tags are O and {', '.join(f'{letter}-TYPE' for letter in allowed)}; for other files give --scheme {hint}",
    )


def score_files(gold: Path, pred: Path, scorer: str = "strict", scheme: Scheme = "iob2") -> dict[str, Any]:
    """Score a prediction file against a gold file.

    Args:
        gold: a column file or sentence JSONL.
        pred: a column file, sentence JSONL or prediction JSONL.
        scorer: a name of ``SCORERS``.
        scheme: of the tags in column files; the tag scorers (conlleval, seqeval) read raw tags by their own rules.

    Returns:
        ``scorer``, ``sentences``, ``precision``, ``recall``, ``f1`` (percent), ``tp``, ``fp``, ``fn``, ``types`` with
        the same figures a type (none for span), and what the scorer has besides (``boundary``, ``rates``).

    Raises:
        ConfigError: an unknown scorer.
        DataError: a malformed file, or files that differ in sentences or words (file:line).
    """
    if scorer not in SCORERS:
        raise ConfigError(f"unknown scorer '{scorer}'", where="--scorer", fix=did_you_mean(scorer, SCORERS))
    rule = next((rule for rule in CHUNK_RULES if rule == scorer), None)
    left, right = (read_scored(path, None if rule else scheme) for path in (gold, pred))
    if rule and (left[0].tags is None or right[0].tags is None):
        rule = None
        left, right = read_scored(gold, scheme), read_scored(pred, scheme)
    pairs = _align(gold, pred, left, right)
    if rule:
        frame, *sides = tag_mentions([g.tags or () for g, _ in pairs], [p.tags or () for _, p in pairs], rule)
        return _report(scorer, len(pairs), count(*sides), count_types(frame, *sides))
    sentences = [Scored(g.words or (), g.entities, p.entities) for g, p in pairs]
    for (_, p), sentence in zip(pairs, sentences, strict=True):
        _check_entities(p, len(sentence.words))
    return _score(sentences, scorer)


def _check_entities(read: Read, size: int) -> None:
    for start, end, kind in read.entities:
        if not 0 <= start < end <= size:
            raise DataError(f"entity {[start, end, kind]} lies outside the sentence ({size} words)", where=read.where)


def _align(gold: Path, pred: Path, left: Sequence[Read], right: Sequence[Read]) -> list[tuple[Read, Read]]:
    """Pair the sentences of two files: by id where both have ids, else in order."""
    if any(read.words is None for read in left):
        raise DataError("the gold file has no words", where=str(gold), fix="give sentences, not predictions")
    if left[0].key and right[0].key:
        pairs = _align_ids(gold, pred, left, right)
    elif right[0].words is None:
        raise DataError(
            "predictions without words need gold with ids",
            where=str(pred),
            fix="give the gold as results/data/DATASET/SPLIT.jsonl",
        )
    else:
        for g, p in zip(left, right, strict=False):
            _check_words(g, p)
        if len(left) != len(right):
            longer = left[len(right)] if len(left) > len(right) else right[len(left)]
            raise DataError(
                f"{len(left)} sentences in gold, {len(right)} in prediction",
                where=longer.where,
                fix="this is the first sentence that one file has and the other has not",
            )
        pairs = list(zip(left, right, strict=True))
    return pairs


def _check_words(gold: Read, pred: Read) -> None:
    if pred.words is None or gold.words == pred.words:
        return
    ours, theirs = gold.words or (), pred.words
    place = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    if place is None:
        what = f"{len(theirs)} words where gold has {len(ours)}"
    else:
        what = f"word {place + 1} is {theirs[place]!r} where gold has {ours[place]!r}"
    raise DataError(f"{what} ({gold.where})", where=pred.where, fix="score a prediction of the same text")


def _align_ids(gold: Path, pred: Path, left: Sequence[Read], right: Sequence[Read]) -> list[tuple[Read, Read]]:
    wanted: dict[str, Read] = {}
    for read in left:
        assert read.key
        if wanted.setdefault(read.key[1], read) is not read:
            raise DataError(f"sentence '{read.key[1]}' a second time", where=read.where)
    seen: dict[tuple[int, str], Read] = {}
    for read in right:
        assert read.key
        if read.key in seen:
            raise DataError(f"sentence '{read.key[1]}' a second time", where=read.where)
        if read.key[1] not in wanted:
            raise DataError(f"sentence '{read.key[1]}' is not in {gold}", where=read.where)
        _check_words(wanted[read.key[1]], read)
        seen[read.key] = read
    pairs = []
    for draw in sorted({draw for draw, _ in seen}):
        missing = [name for name in wanted if (draw, name) not in seen]
        if missing:
            raise DataError(
                f"{len(missing)} gold sentences have no prediction, first '{missing[0]}'"
                + (f" (draw {draw})" if draw else ""),
                where=str(pred),
                fix="give gold with just the sentences that were asked",
            )
        pairs += [(read, seen[draw, name]) for name, read in wanted.items()]
    return pairs


def _score(sentences: Sequence[Scored], scorer: str) -> dict[str, Any]:
    kinds = sorted({entity.type for s in sentences for entity in (*s.gold, *s.pred)})
    if scorer in PEERS:
        counts = peer_counts(sentences, scorer)
        # the None of an empty sentence has no type
        single = "instructuie-fixed" if scorer == "instructuie" else scorer
        types = {kind: _counts(peer_counts(_only(sentences, kind), single)) for kind in kinds}
        extra = {"rates": counts.rates()} if isinstance(counts, FewNerd) else {}
        return _report(scorer, len(sentences), _counts(counts), types) | extra
    frame = Frame.of([len(s.words) for s in sentences], kinds)
    gold, pred = Mentions.of(frame, [s.gold for s in sentences]), Mentions.of(frame, [s.pred for s in sentences])
    if scorer == "strict":
        return _report(scorer, len(sentences), count(gold, pred), count_types(frame, gold, pred))
    if scorer == "span":
        return _report(scorer, len(sentences), count(gold.untyped(frame), pred.untyped(frame)), {})
    matching = match(frame, gold, pred)
    by_type = {}
    for i, kind in enumerate(frame.types):
        by_type[kind] = match(frame, gold.take(gold.type == i), pred.take(pred.type == i)).partial
    boundary = matching.boundary()
    report = _report(scorer, len(sentences), matching.partial, by_type)
    return report | {"boundary": boundary | boundary_rates(boundary)}


def _only(sentences: Sequence[Scored], kind: str) -> list[Scored]:
    return [
        Scored(s.words, [e for e in s.gold if e.type == kind], [e for e in s.pred if e.type == kind]) for s in sentences
    ]


def _counts(counts: Counts | FewNerd) -> Counts:
    return Counts(counts.tp, counts.fp, counts.fn)


def _figures(counts: Counts) -> dict[str, float]:
    scores = {"precision": counts.precision, "recall": counts.recall, "f1": counts.f1}
    return scores | as_json(counts)


def _report(scorer: str, sentences: int, counts: Counts, types: dict[str, Counts]) -> dict[str, Any]:
    by_type = {kind: _figures(types[kind]) for kind in sorted(types)}
    return {"scorer": scorer, "sentences": sentences, **_figures(counts), "types": by_type}
