"""Scores of one block: counts per draw, sentence and type, all metrics, peers' scorers under their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fewtable.corpus import Sentence, Task
from fewtable.errors import DataError
from fewtable.formats.base import Parsed
from fewtable.scoring.mentions import Counts, Frame, Mentions, count, count_rows, count_types
from fewtable.scoring.overlap import match
from fewtable.scoring.peers import PEERS, FewNerd, Scored, peer_counts

SCORER = "fewtable/4"
"""Name and version of the scorer: a change of any count raises the version."""


Answers = Mapping[str, Mapping[str, str] | None]
"""Sentence id -> type -> the answer about it as written; None where answers are not a list a type."""


def score_block(
    tasks: Sequence[Task],
    predictions: Mapping[int, Mapping[str, Parsed]],
    answers: Mapping[int, Answers] | None = None,
) -> dict[str, Any]:
    """Score a block.

    Args:
        tasks: the block's tasks, with the gold query sentences.
        predictions: draw -> sentence id -> what was parsed, as fewtable.predictions reads them.
        answers: draw -> raw answers, which UniversalNER's scorer reads by its own rules; where there are none, it
            takes the parsed entities.

    Returns:
        The JSON value of scores.SPLIT.json: ``scorer`` and, by draw, ``ids``, ``rows`` [sentence, type, tp, fp, fn],
        ``span_rows`` [sentence, tp, fp, fn], ``near`` [sentence, type, overlapping pairs], ``span_near`` [sentence,
        overlapping pairs of any type], ``types``, ``strict``, ``span``, ``partial``, ``boundary`` (the kinds of
        boundary error, under ``blind`` those of spans without type), ``peers`` and ``dropped``. All lists hold
        non-zero rows only.

    Raises:
        DataError: a query sentence has no prediction, a prediction has no query sentence, or an entity lies outside
            its sentence.
    """
    if surplus := sorted(set(predictions) - {task.draw for task in tasks}):
        raise DataError(
            f"predictions for draw {surplus[0]}, which is not in the block",
            fix=f"the block's draws are {sorted(task.draw for task in tasks)}",
        )
    answers = answers or {}
    ordered = sorted(tasks, key=lambda task: task.draw)
    draws = {
        str(task.draw): _score_draw(task, predictions.get(task.draw, {}), answers.get(task.draw, {}))
        for task in ordered
    }
    return {"scorer": SCORER, "draws": draws}


def _score_draw(task: Task, predictions: Mapping[str, Parsed], answers: Answers) -> dict[str, Any]:
    wanted = [sentence.id for sentence in task.query]
    mend = "decode and parse the block again: predictions and sample do not belong together"
    if missing := sorted(set(wanted) - set(predictions)):
        raise DataError(_names("no prediction for", missing, task.draw), fix=mend)
    if surplus := sorted(set(predictions) - set(wanted)):
        raise DataError(_names("a prediction but no query sentence for", surplus, task.draw), fix=mend)
    for sentence in task.query:
        _check(sentence, predictions[sentence.id], task.draw)
    scored = []
    for s in task.query:
        parsed = predictions[s.id]
        scored.append(Scored(s.words, s.entities, parsed.entities, parsed.dropped, answers.get(s.id)))
    dropped = Counter(part.cause for name in wanted for part in predictions[name].dropped)
    return {"ids": wanted, **score_entities(scored), "dropped": dict(sorted(dropped.items()))}


def _names(what: str, ids: Sequence[str], draw: int) -> str:
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return f"draw {draw}: {what} {', '.join(repr(i) for i in ids[:3])}{more}"


def _check(sentence: Sentence, prediction: Parsed, draw: int) -> None:
    size = len(sentence.words)
    for start, end, kind in prediction.entities:
        if not 0 <= start < end <= size:
            raise DataError(
                f"draw {draw}: predicted entity {[start, end, kind]} lies outside sentence "
                f"'{sentence.id}' ({size} words)",
                fix="entities are [start, end, type] in words, start from 0, end exclusive",
            )


def score_entities(sentences: Sequence[Scored], peers: Sequence[str] = PEERS) -> dict[str, Any]:
    """Return all counts of some sentences: what a draw holds in scores.SPLIT.json, without ids and dropped."""
    kinds = {entity.type for s in sentences for entity in (*s.gold, *s.pred)}
    frame = Frame.of([len(s.words) for s in sentences], kinds)
    gold, pred = Mentions.of(frame, [s.gold for s in sentences]), Mentions.of(frame, [s.pred for s in sentences])
    spans = Frame(frame.offsets, ("",))
    gold_spans, pred_spans = gold.untyped(frame), pred.untyped(frame)
    matching, blind = match(frame, gold, pred), match(spans, gold_spans, pred_spans)
    rows = [[i, frame.types[t], tp, fp, fn] for i, t, tp, fp, fn in count_rows(frame, gold, pred)]
    return {
        "rows": rows,
        "span_rows": [[i, tp, fp, fn] for i, _, tp, fp, fn in count_rows(spans, gold_spans, pred_spans)],
        "near": [[i, frame.types[t], pairs] for i, t, pairs in matching.near_rows(frame)],
        "span_near": [[i, pairs] for i, _, pairs in blind.near_rows(spans)],
        "types": {name: as_json(counts) for name, counts in count_types(frame, gold, pred).items()},
        "strict": as_json(count(gold, pred)),
        "span": as_json(count(gold_spans, pred_spans)),
        "partial": as_json(matching.partial),
        "boundary": {**matching.boundary(), "blind": blind.boundary()},
        "peers": {name: as_json(peer_counts(sentences, name)) for name in peers},
    }


def as_json(counts: Counts | FewNerd) -> dict[str, int | float]:
    """Return named counts, whole numbers as such."""
    return {name: int(n) if n == int(n) else n for name, n in counts._asdict().items()}
