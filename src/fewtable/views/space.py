"""Vectors of entities as points: t-SNE, and how well their types lie apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewtable.corpus import Entity, Sentence
from fewtable.files import stable_seed

Vectors = NDArray[np.float32]


class Found(NamedTuple):
    """An entity in its sentence."""

    sentence: Sentence
    entity: Entity


def chosen(dataset: str, sentences: Iterable[Sentence], limit: int) -> list[Found]:
    """Return at most ``limit`` entities of each type, in a random order that is the same each time, then by type."""
    found = [Found(sentence, entity) for sentence in sentences for entity in sentence.entities]
    found.sort(key=lambda one: stable_seed("entity", dataset, one.sentence.id, *one.entity))
    seen: Counter[str] = Counter()
    kept = []
    for one in found:
        seen[one.entity.type] += 1
        if seen[one.entity.type] <= limit:
            kept.append(one)
    return sorted(kept, key=lambda one: one.entity.type)


def placed(vectors: Vectors, perplexity: float) -> NDArray[np.float64]:
    """Return vectors (n, size) as points (n, 2): t-SNE by cosine distance, from the first principal components.

    One thread and a fixed seed: the same vectors give the same points. Of few vectors, the perplexity is a third of
    the others at most.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    made = TSNE(perplexity=min(perplexity, (len(vectors) - 1) / 3), metric="cosine", init="pca", random_state=0)
    with threadpool_limits(1):
        points: NDArray[np.float64] = made.fit_transform(vectors.astype(np.float32)).astype(np.float64)
    return points


def silhouette(vectors: NDArray[Any], types: Sequence[str], metric: Literal["cosine", "euclidean"]) -> float | None:
    """Return the mean silhouette of vectors by type, from -1 to 1 (Rousseeuw 1987); that of an only one is 0.

    None where there are not two types, or as many as vectors.
    """
    from sklearn.metrics import silhouette_score

    if not 1 < len(set(types)) < len(types):
        return None
    return float(silhouette_score(vectors, list(types), metric=metric))
