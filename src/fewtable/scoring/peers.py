"""Peers' string scorers and Few-NERD's episode scorer, so that a published number can be traced to its scorer.

None of them is a main metric: strings have no positions, and each has defects that are kept here on purpose.
"""

from __future__ import annotations

import json
import re
import string
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fewtable.corpus import Entity, drop_overlaps, entities_to_tags
from fewtable.errors import DataError
from fewtable.formats.base import Dropped
from fewtable.scoring.mentions import Counts, Frame, Ints, Mentions, count, found_in
from fewtable.scoring.overlap import pair_up
from fewtable.scoring.tags import CHUNK_RULES, ChunkRule, tag_mentions


class Scored(NamedTuple):
    """A sentence with both sides' entities."""

    words: Sequence[str]
    gold: Sequence[Entity]
    pred: Sequence[Entity]
    dropped: Sequence[Dropped] = ()
    """What gave no entity of the answer: a scorer of strings counts it all the same."""
    answers: Mapping[str, str] | None = None
    """Type -> the answer as written, where a format asks for a JSON list a type (``Format.raw_answers``)."""


# --- UniversalNER (src/eval/evaluate.py) ----------------------------------------------------------

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_LIST = re.compile(r"\[.*?\]")


@lru_cache(maxsize=1 << 16)
def normalise(text: str) -> str:
    """Lower the case, take off ASCII punctuation and articles, squeeze blanks, as UniversalNER's evaluator does."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def uniner_parse(answer: str) -> list[str]:
    """Read an answer as UniversalNER's evaluator does: distinct normalised items, in order.

    The list must open the answer and is read up to the first ``]``, also inside an item; whatever is not a JSON
    list of strings then counts as no item at all.
    """
    found = _LIST.match(answer)
    try:
        return list(dict.fromkeys(map(normalise, json.loads(found.group() if found else "[]"))))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return []


def _queries(sentences: Iterable[Scored]) -> Iterable[tuple[list[str], list[str]]]:
    """Yield the normalised (gold, predicted) items of each query, one query a sentence and type.

    Raw answers are read as released, without what stands before the last "ASSISTANT:" and blanks around them. Of a
    format without such answers the parsed entities are the items, then the strings that are not in the sentence.
    """
    for sentence in sentences:
        gold = _surfaces(sentence.words, sentence.gold)
        if sentence.answers is None:
            pred = _surfaces(sentence.words, sentence.pred)
            for part in sentence.dropped:
                if part.cause == "unmatched" and part.type:
                    pred[part.type].append(part.text)
            answers = {kind: json.dumps(items) for kind, items in pred.items()}
        else:
            answers = {kind: text.rpartition("ASSISTANT:")[2].strip() for kind, text in sentence.answers.items()}
        for kind in sorted(gold.keys() | answers.keys()):
            yield uniner_parse(json.dumps(gold[kind])), uniner_parse(answers.get(kind, ""))


def _surfaces(words: Sequence[str], entities: Iterable[Entity]) -> dict[str, list[str]]:
    """Return type -> strings from left to right."""
    found: dict[str, list[str]] = defaultdict(list)
    for start, end, kind in sorted(entities):
        found[kind].append(" ".join(words[start:end]))
    return found


def uniner(sentences: Iterable[Scored]) -> Counts:
    """Count as UniversalNER's evaluator does: distinct normalised strings a query, gold read by the same parser.

    It asks of no string where it stands, nor whether the passage has it: one that it has not is a false positive.
    """
    hits = found = wanted = 0
    for gold, pred in _queries(sentences):
        hits += len(set(gold) & set(pred))
        found += len(pred)
        wanted += len(gold)
    return Counts(hits, found - hits, wanted - hits)


def uniner_partial(sentences: Iterable[Scored]) -> Counts:
    """Count as ``uniner``, and items that share a normalised word, paired one to one, as half.

    UniversalNER's Table 5 does not say how it pairs; this is methods/11's reading.
    """
    hits, found, wanted = 0.0, 0, 0
    for gold, pred in _queries(sentences):
        exact = set(gold) & set(pred)
        found += len(pred)
        wanted += len(gold)
        left = [set(item.split()) for item in gold if item not in exact]
        right = [set(item.split()) for item in pred if item not in exact]
        shared = {(i, j): len(a & b) for i, a in enumerate(left) for j, b in enumerate(right) if a & b}
        hits += len(exact) + (0.5 * len(pair_up(shared)) if shared else 0)
    return Counts(hits, found - hits, wanted - hits)


# --- InstructUIE (src/evaluation/evaluator.py, EvaluatorNER) --------------------------------------

_SPACED = re.compile(r"\s*([,:()._;'-])\s*")
_REPEATED = re.compile(r"([,.;])\1+")


@lru_cache(maxsize=1 << 16)
def _tidy(text: str) -> str:
    text = _SPACED.sub(r"\1", " ".join(text.split())).lower()
    text = _REPEATED.sub(r"\1", text.replace("{", "").replace("}", ""))
    return text.replace("’", "'").replace("location", "located")


def instructuie_parse(answer: str, none_bug: bool = True) -> frozenset[str]:
    """Read an answer as InstructUIE's evaluator does: ``type:surface`` strings between semicolons.

    With ``none_bug``, as released, an item without a colon stays: the ``None`` of an empty sentence is an entity.
    """
    items = (_tidy(item) for item in _tidy(answer).split(";"))
    return frozenset(item for item in items if none_bug or ":" in item)


def _answer(words: Sequence[str], entities: Iterable[Entity], dropped: Iterable[Dropped] = ()) -> str:
    """Return an answer in InstructUIE's words, with the pairs of a string or a type that there is not."""
    pairs = [f"{kind}: {' '.join(words[start:end])}" for start, end, kind in sorted(entities)]
    pairs += [f"{part.type}: {part.text}" for part in dropped if part.cause == "unmatched" and part.type]
    pairs += [part.text for part in dropped if part.cause == "unknown-type"]
    return "; ".join(pairs) or "None"


def instructuie(sentences: Iterable[Scored], none_bug: bool = True) -> Counts:
    """Count as InstructUIE's evaluator does; without ``none_bug`` as B2NER's fork mends it."""
    hits = found = wanted = 0
    for s in sentences:
        left = instructuie_parse(_answer(s.words, s.gold), none_bug)
        right = instructuie_parse(_answer(s.words, s.pred, s.dropped), none_bug)
        hits += len(left & right)
        found += len(right)
        wanted += len(left)
    return Counts(hits, found - hits, wanted - hits)


# --- conlleval and seqeval, on entities -----------------------------------------------------------


def chunk_counts(sentences: Sequence[Scored], rule: ChunkRule) -> Counts:
    """Count as a tag scorer does, after writing the entities as IOB2 tags (of overlapping ones the longer stays)."""
    gold = [entities_to_tags(s.gold, len(s.words)) for s in sentences]
    pred = [entities_to_tags(s.pred, len(s.words)) for s in sentences]
    _, left, right = tag_mentions(gold, pred, rule)
    return count(left, right)


# --- Few-NERD (util/framework.py) -----------------------------------------------------------------


class FewNerd(NamedTuple):
    """The sums that Few-NERD's evaluation keeps over episodes."""

    tp: int
    fp: int
    fn: int
    words: int
    fp_words: int
    """Words that gold leaves outside and the prediction puts inside an entity."""
    fn_words: int
    spans: int
    """Predicted runs whose boundaries are right, whatever their type."""
    within: int
    """Of these, right coarse type and wrong fine type."""
    outer: int
    """Of these, wrong coarse type."""

    def rates(self) -> dict[str, float]:
        """Return the four error rates in percent: FP and FN of all words, Within and Outer of right spans."""
        words, spans = max(self.words, 1), self.spans + 1e-6
        return {
            "fp": 100 * self.fp_words / words,
            "fn": 100 * self.fn_words / words,
            "within": 100 * self.within / spans,
            "outer": 100 * self.outer / spans,
        }


def fewnerd(sentences: Sequence[Scored]) -> FewNerd:
    """Score one episode as Few-NERD does: runs of equal labels over all query sentences put end to end.

    A mention at the end of a sentence and one of its type at the start of the next are thus one mention. The coarse
    type is the text before the first hyphen.
    """
    kinds = {entity.type for s in sentences for entity in (*s.gold, *s.pred)}
    frame = Frame.of([len(s.words) for s in sentences], kinds)
    gold_labels = _labels(frame, [s.gold for s in sentences])
    pred_labels = _labels(frame, [s.pred for s in sentences])
    whole = Frame(np.array([0, frame.words], dtype=np.int64), frame.types)
    gold, pred = _runs(whole, gold_labels), _runs(whole, pred_labels)
    hits = int(found_in(pred, gold).sum())
    gold_spans, pred_spans = gold.untyped(whole), pred.untyped(whole)
    right_gold = gold.take(found_in(gold_spans, pred_spans))
    right_pred = pred.take(found_in(pred_spans, gold_spans))
    coarse_names = sorted({name.partition("-")[0] for name in frame.types})
    coarse = np.array([coarse_names.index(name.partition("-")[0]) for name in frame.types], dtype=np.int64)
    same_coarse = coarse[right_gold.type] == coarse[right_pred.type]
    return FewNerd(
        tp=hits,
        fp=len(pred) - hits,
        fn=len(gold) - hits,
        words=frame.words,
        fp_words=int(((gold_labels < 0) & (pred_labels >= 0)).sum()),
        fn_words=int(((gold_labels >= 0) & (pred_labels < 0)).sum()),
        spans=len(right_gold),
        within=int((same_coarse & (right_gold.type != right_pred.type)).sum()),
        outer=int((~same_coarse).sum()),
    )


def _labels(frame: Frame, sentences: Sequence[Sequence[Entity]]) -> Ints:
    """Return the type index of each word of the flat text, -1 outside; overlaps are flattened."""
    mentions = Mentions.of(frame, sentences)
    if len(mentions) > 1 and (mentions.start[1:] < np.maximum.accumulate(mentions.end)[:-1]).any():
        mentions = Mentions.of(frame, [drop_overlaps(entities) for entities in sentences])
    labels = np.full(frame.words, -1, dtype=np.int64)
    length = mentions.end - mentions.start
    step = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
    labels[np.repeat(mentions.start, length) + step] = np.repeat(mentions.type, length)
    return labels


def _runs(whole: Frame, labels: Ints) -> Mentions:
    edges = np.flatnonzero(np.diff(labels, prepend=-2, append=-2))
    start, end = edges[:-1], edges[1:]
    inside = labels[start] >= 0 if len(labels) else np.zeros(0, dtype=np.bool_)
    return Mentions.build(whole, start[inside], end[inside], labels[start[inside]])


# --- all of them ----------------------------------------------------------------------------------

PEERS = (
    *CHUNK_RULES,
    "uniner",
    "uniner-partial",
    "instructuie",
    "instructuie-fixed",
    "fewnerd",
)


def peer_counts(sentences: Sequence[Scored], peer: str) -> Counts | FewNerd:
    """Return the counts of one peer's scorer (a name of ``PEERS``)."""
    if peer == "uniner":
        return uniner(sentences)
    if peer == "uniner-partial":
        return uniner_partial(sentences)
    if peer == "instructuie":
        return instructuie(sentences)
    if peer == "instructuie-fixed":
        return instructuie(sentences, none_bug=False)
    if peer == "fewnerd":
        return fewnerd(sentences)
    for rule in CHUNK_RULES:
        if peer == rule:
            return chunk_counts(sentences, rule)
    raise DataError(f"unknown scorer '{peer}'", fix=f"known: {', '.join(PEERS)}")
