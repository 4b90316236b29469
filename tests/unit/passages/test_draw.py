"""The draw: uniform, of distinct texts, the same in any order; the language filter."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter

import pytest

from fewtable.passages.draw import Draw
from fewtable.passages.language import english


def draw(texts: list[str], size: int, seed: int = 1) -> list[str]:
    made: Draw[str] = Draw(size, seed)
    for text in texts:
        number = made.number(text)
        if made.wants(number) and number not in made:
            made.add(number, text)
    return made.drawn()


TEXTS = [f"text {i}" for i in range(300)]


def test_the_order_and_repeats_of_the_stream_do_not_count() -> None:
    mixed = TEXTS * 3
    random.Random(0).shuffle(mixed)
    drawn = draw(TEXTS, 50)
    assert draw(mixed, 50) == drawn
    assert len(set(drawn)) == 50


def test_a_smaller_draw_begins_a_larger_one_and_seeds_differ() -> None:
    assert draw(TEXTS, 100)[:20] == draw(TEXTS, 20)
    assert draw(TEXTS, 20, seed=2) != draw(TEXTS, 20)
    assert sorted(draw(TEXTS, 1000)) == sorted(TEXTS), "all of them where there are fewer"


def test_the_memory_is_that_of_what_is_drawn() -> None:
    made: Draw[str] = Draw(7, 1)
    for text in TEXTS:
        if made.wants(number := made.number(text)):
            made.add(number, text)
        assert len(made.drawn()) <= 7
    assert [text for text in TEXTS if made.wants(made.number(text))] == sorted(made.drawn(), key=TEXTS.index)


def test_uniform() -> None:
    """Chi-squared over 30 texts, 3,000 draws of 5: below the 0.1 % point of 29 degrees of freedom (58.3)."""
    counts = Counter(text for seed in range(3000) for text in draw(TEXTS[:30], 5, seed))
    expected = 3000 * 5 / 30
    # Without replacement the variance is smaller by (N - n) / (N - 1).
    statistic = sum((counts[t] - expected) ** 2 / expected for t in TEXTS[:30]) / (25 / 29)
    assert statistic < 58.3


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_the_same_in_every_process(hash_seed: str) -> None:
    code = "from fewtable.passages.draw import Draw; print(Draw(1, 7).number('Zürich'))"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "321766389632412934015702896317066916786"


def test_english() -> None:
    is_english = english()
    for text in (
        "The committee met in Geneva on Friday to talk about the new rules.",
        "show me all the thai places near here that are open late",
        "Tomic served as deputy for Arica , Pisagua and Iquique ( 1941-1945 ) .",
        "By direct sequencing , we identified five mutations , of which two were novel .",
    ):
        assert is_english(text), text
    for text in (
        "Der Ausschuss traf sich am Freitag in Genf, um über die neuen Regeln zu reden.",
        "El comité se reunió el viernes en Ginebra para hablar de las nuevas reglas.",
        "Komisja spotkała się w piątek w Genewie, aby omówić nowe zasady.",
        "委員会は金曜日にジュネーブで会合を開いた。",
        "Комитет собрался в пятницу в Женеве, чтобы обсудить новые правила.",
        "Kreeg net een bruikbare tip van iemand die vorige week was begonnen met een dieet",
    ):
        assert not is_english(text), text
