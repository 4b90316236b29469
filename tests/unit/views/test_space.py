"""Points are the same each time, silhouettes those worked out by hand, entities drawn by a rule."""

from __future__ import annotations

import numpy as np
import pytest

from fewtable.corpus import Entity, Sentence
from fewtable.views.space import chosen, placed, silhouette


def test_the_silhouette_of_a_case_by_hand() -> None:
    points = np.array([[0.0], [1.0], [4.0], [5.0]])
    outer, inner = 1 - 1 / 4.5, 1 - 1 / 3.5
    assert silhouette(points, ["a", "a", "b", "b"], "euclidean") == pytest.approx((outer + inner) / 2)
    angles = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 5.0]])
    assert silhouette(angles, ["a", "a", "b", "b"], "cosine") == pytest.approx(1.0)
    assert silhouette(angles, ["a", "b", "a", "b"], "cosine") == pytest.approx(-0.5)


def test_one_type_or_as_many_as_vectors_have_no_silhouette() -> None:
    vectors = np.eye(3)
    assert silhouette(vectors, ["a"] * 3, "cosine") is None
    assert silhouette(vectors, ["a", "b", "c"], "cosine") is None


def test_points_are_the_same_bytes_twice_and_keep_what_is_near() -> None:
    random = np.random.default_rng(0)
    centres = np.repeat(random.normal(size=(3, 16)), 10, axis=0)
    vectors = (centres + 0.05 * random.normal(size=(30, 16))).astype(np.float32)
    points = placed(vectors, 30)
    assert points.shape == (30, 2) and points.tobytes() == placed(vectors, 30).tobytes()
    types = [str(n // 10) for n in range(30)]
    found = silhouette(points, types, "euclidean")
    assert found is not None and found > 0.5


def test_entities_are_drawn_at_random_up_to_a_number_a_type_and_the_same_each_time() -> None:
    sentences = [
        Sentence(f"test-{n:06d}", ("a", "b"), (Entity(0, 1, "x"), *([Entity(1, 2, "y")] if n < 3 else [])))
        for n in range(20)
    ]
    found = chosen("toy", sentences, 5)
    assert [one.entity.type for one in found] == ["x"] * 5 + ["y"] * 3
    assert found == chosen("toy", sentences[::-1], 5)
    drawn = [one.sentence.id for one in found[:5]]
    assert drawn != [s.id for s in sentences[:5]] and drawn != sorted(drawn)
