"""What span methods share: texts with their entities, the spans of a text, and an encoder with heads of its own.

Words that the tokenizer gives no piece have no vector, so spans are counted in the words that have one; ``Text.entity``
leads back to the words of the sentence.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pad_sequence

from fewtable.corpus import Entity, Sentence
from fewtable.errors import DataError
from fewtable.training.encoder import Encoder, Window
from fewtable.training.example import whole

HEADS = "heads.safetensors"


@dataclass(frozen=True, slots=True)
class Text:
    """A sentence as span methods see it."""

    windows: tuple[Window, ...]
    words: tuple[int, ...]
    """Index in the sentence of each word that has a piece."""
    gold: tuple[Entity, ...]
    """Entities, counted in ``words``."""

    def entity(self, start: int, end: int, kind: str) -> Entity:
        """Return the entity of the sentence whose words are those from ``start`` to ``end`` (exclusive) here."""
        return Entity(self.words[start], self.words[end - 1] + 1, kind)


def read(encoder: Encoder, sentence: Sentence) -> Text:
    """Return a sentence as a text; entities none of whose words has a piece are left out."""
    windows = tuple(encoder.windows(sentence.words))
    words = tuple(word for window in windows for word in window.words)
    found = (Entity(bisect_left(words, e.start), bisect_left(words, e.end), e.type) for e in sentence.entities)
    return Text(windows, words, tuple(entity for entity in found if entity.start < entity.end))


@lru_cache(maxsize=1024)
def all_spans(length: int, longest: int) -> torch.Tensor:
    """Return all spans (n, 2) of at most ``longest`` of ``length`` words: start, end (exclusive), by start."""
    starts = torch.arange(length)[:, None].expand(-1, longest)
    ends = starts + torch.arange(1, longest + 1)
    return torch.stack([starts, ends], dim=-1)[ends <= length]


def both_ends(window: Window, tail: int) -> Window:
    """Return the window with the positions of the first and the last piece of each word, by turns.

    Args:
        window: of an encoder.
        tail: the encoder's number of special tokens after a text.
    """
    after = (*window.first[1:], len(window.ids) - tail)
    pairs = zip(window.first, after, strict=True)
    return replace(window, first=tuple(position for first, end in pairs for position in (first, end - 1)))


def in_pairs(states: torch.Tensor) -> torch.Tensor:
    """Return the states of ``both_ends`` (2 words, size) as (words, 2, size)."""
    return torch.stack([states[0::2], states[1::2]], dim=1)


class SpanModel(torch.nn.Module):
    """An encoder and a span method's own weights.

    Args:
        encoder: it is trained with the heads.
        heads: all other weights.
    """

    def __init__(self, encoder: Encoder, heads: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder.model
        self.heads = heads.to(encoder.device)
        self.pieces = encoder

    def read(self, sentences: Iterable[Sentence]) -> list[Text]:
        """Return sentences as texts of this encoder."""
        return [read(self.pieces, sentence) for sentence in sentences]

    def padded(self, windows: Sequence[Window]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the padded states (b, pieces, size) of windows, special tokens among them, and their lengths (b).

        Without a gradient they come in the encoder's fixed layout.
        """
        sizes = [len(window.ids) for window in windows]
        if torch.is_grad_enabled():
            rows = torch.split(self.pieces.states([whole(w) for w in windows]), sizes)
        else:
            found = dict(self.pieces.vectors([[whole(w)] for w in windows]))
            rows = tuple(found[i] for i in range(len(windows)))
        return pad_sequence(list(rows), batch_first=True), torch.tensor(sizes, device=self.pieces.device)

    def before(self, step: int, lr: float) -> None:
        """Be told of a step of the training before it."""

    def nothing(self) -> tuple[torch.Tensor, float]:
        """Return the loss of an episode that teaches nothing."""
        return next(self.parameters()).sum() * 0, 0.0

    def save(self, folder: Path) -> None:
        """Write encoder and heads."""
        self.pieces.save(folder)
        save_file({name: t.contiguous() for name, t in self.heads.state_dict().items()}, folder / HEADS)
        (folder / HEADS).chmod(0o644)

    def take(self, folder: Path) -> None:
        """Take the weights that ``save`` wrote.

        Raises:
            DataError: there are none, or they belong to another encoder or other heads.
        """
        self.pieces.load(folder)
        path = folder / HEADS
        if not path.exists():
            raise DataError(
                "the run to start from has no heads for spans", where=str(path), fix="start from a run of this method"
            )
        tensors = load_file(path)
        if {n: t.shape for n, t in tensors.items()} != {n: t.shape for n, t in self.heads.state_dict().items()}:
            raise DataError(
                "these heads belong to another method", where=str(path), fix="set train.model alike in both methods"
            )
        self.heads.load_state_dict(tensors)


def groups(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Return indices in their order, together as long as number x largest size squared is within ``budget``."""
    found: list[list[int]] = []
    largest = 0
    for index, size in enumerate(sizes):
        largest = max(largest, size)
        if found and (len(found[-1]) + 1) * largest**2 <= budget:
            found[-1].append(index)
        else:
            found.append([index])
            largest = size
    return found
