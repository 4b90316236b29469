"""Greedy pointer decoding: windows encoded once, one token a step with the decoder's cache, batches by length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fewtable.decoding.generate import layout

if TYPE_CHECKING:
    from fewtable.training.encoder import Window
    from fewtable.training.pointer import PointerModel


def greedy(
    model: PointerModel, windows: Sequence[Window], limits: Sequence[int], batch_size: int, *, start: int, stop: int
) -> list[list[int]]:
    """Return the best tokens of each window, ``stop`` left out (methods/06, Decoding).

    Args:
        model: in evaluation mode.
        windows: what to read.
        limits: most tokens to write for each window; where they are used up, ``stop`` is taken as written.
        batch_size: windows a forward; part of the result, as rounding changes with it.
        start: the token before the first.
        stop: the token that ends.
    """
    import torch
    from transformers import DynamicCache, EncoderDecoderCache

    written: list[list[int]] = [[] for _ in windows]
    for batch in layout([len(w.ids) for w in windows], batch_size):
        going = {row: number for row, number in enumerate(batch) if limits[number] > 0}
        with torch.inference_mode():
            source = model.read([windows[number] for number in batch])
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
            last = torch.full((len(batch), 1), start, device=source.states.device)
            while going:
                last = model.scores(source, last, cache).argmax(-1)
                for row, token in enumerate(last[:, 0].tolist()):
                    if row not in going:
                        continue
                    answer = written[going[row]]
                    if token != stop:
                        answer.append(token)
                    if token == stop or len(answer) == limits[going[row]]:
                        del going[row]
    return written
