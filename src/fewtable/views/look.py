"""The job of a view: the models of two runs, one after the other, and what was measured in them as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fewtable.corpus import Entity, Sentence, Task, read_samples, read_sentences, restrict
from fewtable.errors import DataError
from fewtable.families.base import Job
from fewtable.registry import find_module
from fewtable.specs import RunSpec
from fewtable.views.space import Found, chosen, placed, silhouette
from fewtable.views.spec import AttentionSpec, Look, LookSpec, SpaceSpec

if TYPE_CHECKING:
    from fewtable.formats.brackets import Brackets

DIGITS = 6


def look(spec: LookSpec) -> dict[str, Any]:
    """Return dataset -> the numbers of a view: what both sides share, and under ``before`` and ``after`` their own.

    Raises:
        DataError: samples or models lack the draw, or there are too few entities.
    """
    return {dataset: _look(spec, dataset, one) for dataset, one in spec.looks.items()}


def _look(spec: LookSpec, dataset: str, one: Look) -> dict[str, Any]:
    sample = next((s for s in read_samples(Path(one.samples)) if s.draw == spec.draw), None)
    if sample is None:
        raise DataError(f"no draw {spec.draw}", where=one.samples, fix="remove the sample file")
    if spec.attention:
        return _attention(spec, one, spec.attention, Task(spec.draw, sample.types, (), ()))
    assert spec.space
    learned = set(sample.support)
    unseen = (s for s in read_sentences(Path(one.data)) if s.id not in learned)
    found = chosen(dataset, (restrict(s, sample.types) for s in unseen), spec.space.entities)
    if len(found) < 4:
        raise DataError(f"{len(found)} entities are too few to be seen as points", where=one.data)
    return _space(spec, one, spec.space, Task(spec.draw, sample.types, (), ()), found)


def _opened(spec: LookSpec, one: Look, side: str, task: Task) -> tuple[Any, Brackets, Path]:
    """Return a side's session, its format for a task's types and the folder of its model."""
    from fewtable.families._text import format_of
    from fewtable.formats.brackets import Brackets

    own: RunSpec = one.specs[side]
    folder = Path(one.models[side]) / str(spec.draw)
    if not folder.exists():
        raise DataError(f"no model of draw {spec.draw}", where=one.models[side], fix="train the block again")
    session = find_module("families", own.family, f"{own.method}:family").load(Job(own, Path(one.backbone), 1))
    form = format_of(own, task)
    assert isinstance(form, Brackets)
    return session, form, folder


def _attention(spec: LookSpec, one: Look, what: AttentionSpec, task: Task) -> dict[str, Any]:
    places = [place for entity in what.entities if (place := what.place(entity))]
    entities = tuple(sorted(Entity(start, end, what.type) for start, end in places))
    sentence = Sentence("view-000000", what.sentence, entities)
    shared = {"type": what.type, "words": what.sentence, "entities": [list(entity[:2]) for entity in entities]}
    return shared | {side: _attention_of(spec, one, side, task, sentence, what.type) for side in one.specs}


def _attention_of(spec: LookSpec, one: Look, side: str, task: Task, sentence: Sentence, name: str) -> dict[str, Any]:
    from fewtable.views.inside import attention, cosines, numbered, question

    session, form, folder = _opened(spec, one, side, task)
    asked = question(session, form, sentence, name, [(n, n + 1) for n in range(len(sentence.words))])
    with session.trained(folder) as model:
        layer = numbered(model, spec.layer)
        looked, elsewhere = attention(model, asked, layer)
        close = cosines(model, asked, layer)
    return {
        "layer": layer,
        "written": [session.tokenizer.decode([token]) for token in asked.ids[asked.start :]],
        "attention": _rounded(looked.numpy()),
        "elsewhere": _rounded(elsewhere.numpy()),
        "cosines": _rounded(close.numpy()),
    }


def _space(spec: LookSpec, one: Look, what: SpaceSpec, task: Task, found: Sequence[Found]) -> dict[str, Any]:
    entities = [[s.id, *entity, s.surface(entity.start, entity.end)] for s, entity in found]
    return {"entities": entities} | {side: _space_of(spec, one, side, what, task, found) for side in one.specs}


def _space_of(
    spec: LookSpec, one: Look, side: str, what: SpaceSpec, task: Task, found: Sequence[Found]
) -> dict[str, Any]:
    from fewtable.views.inside import numbered

    session, form, folder = _opened(spec, one, side, task)
    with session.trained(folder) as model:
        layer = numbered(model, spec.layer)
        hidden, keys = _vectors(model, session, form, task, found, layer)
    points = placed(hidden, what.perplexity)
    types = [entity.type for _, entity in found]
    scores = {
        "hidden": silhouette(hidden, types, "cosine"),
        "keys": silhouette(keys, types, "cosine"),
        "points": silhouette(points, types, "euclidean"),
    }
    rounded = {name: None if score is None else round(score, DIGITS) for name, score in scores.items()}
    return {"layer": layer, "points": _rounded(points), "silhouette": rounded}


def _vectors(
    model: Any, session: Any, form: Brackets, task: Task, found: Sequence[Found], layer: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the entities' hidden states and keys, (entities, size) each.

    An entity's vector is the mean over the questions about all types of the task. A question names its type ahead of
    the sentence, which is read in its light: the question about an entity's own type alone would tell that type.
    """
    from fewtable.views.inside import question, represented

    order = sorted(range(len(found)), key=lambda n: (found[n].sentence.id, found[n].entity))
    asked, owners = [], []
    for _, group in groupby(order, key=lambda n: found[n].sentence.id):
        members = list(group)
        sentence, spans = found[members[0]].sentence, [found[n].entity[:2] for n in members]
        asked += [question(session, form, sentence, name, spans) for name in task.types]
        owners += [members for _ in task.types]
    vectors = represented(model, asked, layer)
    hidden, keys = (np.zeros((len(found), values.shape[1]), np.float32) for values in vectors[0])
    for members, of_one in zip(owners, vectors, strict=True):
        hidden[members] += of_one.hidden.numpy() / len(task.types)
        keys[members] += of_one.keys.numpy() / len(task.types)
    return hidden, keys


def _rounded(values: np.ndarray[Any, Any]) -> Any:
    return np.round(values.astype(np.float64), DIGITS).tolist()
