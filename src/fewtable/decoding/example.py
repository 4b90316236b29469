"""The spans of a type's likely starts and ends (methods/09, Decoding)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fewtable.corpus import Entity, without_overlap

if TYPE_CHECKING:
    import torch

    from fewtable.training.encoder import Window
    from fewtable.training.example import Known


def answer(
    known: Known, sentences: Sequence[Sequence[Window]], threshold: float, longest: int
) -> Iterator[list[Entity]]:
    """Yield the entities of each sentence, sorted: no two share a word, the higher score first.

    Ties: the earlier start, then the shorter span, then the type's name.

    Args:
        known: the marked mentions.
        sentences: the windows of each sentence.
        threshold: least score of a span.
        longest: most words of a span.
    """
    flat = [window for windows in sentences for window in windows]
    found: list[list[tuple[float, Entity]]] = [[] for _ in flat]
    for i, likely in known.probabilities(flat):
        found[i] = spans(likely, flat[i], known.names, threshold, longest)
    parts = iter(found)
    for windows in sentences:
        scored = [pair for _ in windows for pair in next(parts)]
        ordered = sorted(scored, key=lambda pair: (-pair[0], pair[1]))
        yield sorted(without_overlap(span for _, span in ordered))


def spans(
    likely: torch.Tensor, window: Window, names: Sequence[str], threshold: float, longest: int
) -> list[tuple[float, Entity]]:
    """Return (score, span) of the spans of a window that reach ``threshold``, whatever they overlap.

    A span's score is the mean of its start's and its end's probability.

    Args:
        likely: start and end probabilities (2, types, words).
        window: with the words' indices in their sentence.
        names: of the types.
        threshold: least score of a span.
        longest: most words of a span.
    """
    import torch

    pairs = (likely[0][:, :, None] + likely[1][:, None, :]) / 2
    words = torch.tensor(window.words)
    length = words[None, :] - words[:, None] + 1
    allowed = (length >= 1) & (length <= longest) & (pairs >= threshold)
    return [
        (float(pairs[kind, left, right]), Entity(window.words[left], window.words[right] + 1, names[kind]))
        for kind, left, right in allowed.nonzero().tolist()
    ]
