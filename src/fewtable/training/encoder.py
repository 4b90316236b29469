"""Word vectors from an encoder: the state of each word's first piece, in windows, on a fixed layout.

Words that the tokenizer gives no piece (zero-width characters) have no vector; callers keep them as O
(methods/fs-01, "Words that tokenise to nothing").
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file

from fewtable.errors import DataError
from fewtable.training.device import pick_device

Layers = Literal["last", "sum4"]
WEIGHTS = "encoder.safetensors"
LAYOUT_BATCH = 32
"""Windows of a forward without gradient. Not a knob: it fixes the rounding of the vectors."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a sentence that fits into one forward."""

    ids: tuple[int, ...]
    """Piece ids with the special tokens."""
    first: tuple[int, ...]
    """Position in ``ids`` of the first piece of each word."""
    words: tuple[int, ...]
    """Index in the sentence of each word that has a piece."""


class Encoder:
    """A pretrained encoder with its tokenizer, restored between draws.

    Args:
        folder: weights and tokenizer in transformers' layout.
        dtype: ``float32``, or ``bfloat16`` for autocast over float32 weights.
        layers: ``last`` hidden layer, or the sum of the last four (``sum4``).
        window: most pieces of a forward, special tokens among them.
    """

    def __init__(self, folder: Path, dtype: str, layers: Layers = "last", window: int = 128) -> None:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, use_fast=True)
        self.device = pick_device()
        model = AutoModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # its output is unused, so it would be weights without a gradient
        self.model: torch.nn.Module = model.to(self.device).eval()
        self.size = int(model.config.hidden_size)
        self._layers = layers
        self._autocast = dtype == "bfloat16"
        self._head, self._tail = self._special_tokens()
        limit = int(getattr(model.config, "max_position_embeddings", window))
        self._room = min(window, limit) - len(self._head) - len(self._tail)
        self._pad = self._tokenizer.pad_token_id or 0
        self._original = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def _special_tokens(self) -> tuple[list[int], list[int]]:
        bare = self._tokenizer("a", add_special_tokens=False)["input_ids"]
        full = self._tokenizer("a")["input_ids"]
        start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
        return full[:start], full[start + len(bare) :]

    def restore(self) -> None:
        """Bring the pretrained weights back."""
        self.model.load_state_dict(self._original)

    def save(self, folder: Path) -> None:
        """Write the weights to ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}
        save_file(tensors, folder / WEIGHTS)
        (folder / WEIGHTS).chmod(0o644)

    def load(self, folder: Path) -> None:
        """Take the weights that ``save`` wrote; raise DataError when they are not there or of another encoder."""
        path = folder / WEIGHTS
        if not path.exists():
            raise DataError("the run to start from has no encoder", where=str(path), fix="start from an encoder's run")
        try:
            self.model.load_state_dict(load_file(path))
        except RuntimeError:
            raise DataError(
                "these weights belong to another encoder", where=str(path), fix="use the same backbone in both runs"
            ) from None

    def windows(self, words: Sequence[str]) -> list[Window]:
        """Cut a sentence into consecutive windows at word borders; a word longer than a window loses its rest."""
        if not words:
            return []
        coded = self._tokenizer(list(words), is_split_into_words=True, add_special_tokens=False, truncation=False)
        pieces: dict[int, list[int]] = {}
        for piece, word in zip(coded["input_ids"], coded.word_ids(), strict=True):
            pieces.setdefault(word, []).append(piece)
        groups: list[list[int]] = []
        room = 0
        for word in sorted(pieces):
            pieces[word] = pieces[word][: self._room]
            if len(pieces[word]) > room:
                groups.append([])
                room = self._room
            groups[-1].append(word)
            room -= len(pieces[word])
        return [self._window(group, pieces) for group in groups]

    def _window(self, group: list[int], pieces: dict[int, list[int]]) -> Window:
        ids = list(self._head)
        first = []
        for word in group:
            first.append(len(ids))
            ids += pieces[word]
        return Window((*ids, *self._tail), tuple(first), tuple(group))

    def states(self, windows: Sequence[Window]) -> torch.Tensor:
        """Return the vectors (words, size) of all words of ``windows``, window after window; keeps the gradient."""
        longest = max(len(w.ids) for w in windows)
        ids = torch.full((len(windows), longest), self._pad)
        mask = torch.zeros_like(ids)
        for row, window in enumerate(windows):
            ids[row, : len(window.ids)] = torch.tensor(window.ids)
            mask[row, : len(window.ids)] = 1
        rows = torch.tensor([row for row, w in enumerate(windows) for _ in w.first])
        columns = torch.tensor([position for w in windows for position in w.first])
        context: Any = contextlib.nullcontext()
        if self._autocast:
            context = torch.autocast(self.device.type, torch.bfloat16)
        with context:
            output: Any = self.model(
                input_ids=ids.to(self.device),
                attention_mask=mask.to(self.device),
                output_hidden_states=self._layers == "sum4",
            )
        hidden = output.last_hidden_state
        if self._layers == "sum4":
            hidden = torch.stack(output.hidden_states[-4:]).sum(0)
        found: torch.Tensor = hidden[rows.to(self.device), columns.to(self.device)].float()
        return found

    def vectors(self, sentences: Sequence[Sequence[Window]]) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (index, vectors of its words (n, size)) of all sentences, without gradient, in no fixed order.

        Windows go through sorted by length in batches of a fixed size, so that the same sentences always give the
        same bytes. Sentences without pieces give (0, size).
        """
        flat = sorted(
            ((i, k, w) for i, ws in enumerate(sentences) for k, w in enumerate(ws)), key=lambda x: len(x[2].ids)
        )
        parts: list[dict[int, torch.Tensor]] = [{} for _ in sentences]
        for index, windows in enumerate(sentences):
            if not windows:
                yield index, torch.zeros(0, self.size, device=self.device)
        for start in range(0, len(flat), LAYOUT_BATCH):
            batch = flat[start : start + LAYOUT_BATCH]
            with torch.inference_mode():
                states = self.states([w for _, _, w in batch])
            sizes = [len(w.first) for _, _, w in batch]
            for (index, k, _), vectors in zip(batch, torch.split(states, sizes), strict=True):
                parts[index][k] = vectors
                if len(parts[index]) == len(sentences[index]):
                    yield index, torch.cat([parts[index][n] for n in range(len(sentences[index]))])
                    parts[index] = {}
