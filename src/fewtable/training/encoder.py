"""Word vectors: the state of each word's first piece, in windows, on a fixed layout.

Of an encoder it is the state of that piece. Of BART it is the state of the top decoder layer: the sentence goes to the
encoder and, not shifted, to the decoder (methods/04), so that position i has read piece i and describes it.

Words that the tokenizer gives no piece (zero-width characters) have no vector; callers keep them as O
(methods/fs-01, "Words that tokenise to nothing").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file

from fewtable.decoding.generate import pad
from fewtable.errors import ConfigError, DataError
from fewtable.training.device import pick_device, precision

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
    """A pretrained encoder or BART with its tokenizer, restored between draws.

    Args:
        folder: weights and tokenizer in transformers' layout.
        dtype: ``float32``, or ``bfloat16`` for autocast over float32 weights.
        layers: ``last`` hidden layer, or the sum of the last four (``sum4``).
        window: most pieces of a forward, special tokens among them.
        markers: number of new pieces, with random vectors, that no text can spell; see ``markers``.

    Raises:
        ConfigError: an encoder-decoder that is no BART.
    """

    def __init__(self, folder: Path, dtype: str, layers: Layers = "last", window: int = 128, markers: int = 0) -> None:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, use_fast=True)
        self.device = pick_device()
        model = AutoModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        self._decodes = bool(model.config.is_encoder_decoder)
        if self._decodes and model.config.model_type != "bart":
            raise ConfigError(
                f"word vectors are not read from a decoder of type '{model.config.model_type}'",
                where=str(folder),
                fix="take an encoder or a BART as the backbone",
            )
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # its output is unused, so it would be weights without a gradient
        self.markers = self._add_pieces(model, markers)
        """Ids of the new pieces."""
        self.model: torch.nn.Module = model.to(self.device).eval()
        self.size = int(model.config.hidden_size)
        self._layers = layers
        self._autocast = dtype == "bfloat16"
        self._head, self._tail = self._special_tokens()
        self.tail = len(self._tail)
        """Number of special tokens after a text's pieces."""
        self.longest = min(window, _positions(model, window)) - markers
        """Most pieces of a window, special tokens among them."""
        self._room = self.longest - len(self._head) - len(self._tail)
        self._pad = self._tokenizer.pad_token_id or 0
        self._original = {name: tensor.clone() for name, tensor in self._tensors().items()}

    @staticmethod
    def _add_pieces(model: Any, count: int) -> tuple[int, ...]:
        size = int(model.get_input_embeddings().num_embeddings)
        if count:
            torch.manual_seed(0)  # the same vectors in every job, though only a saved model keeps them for decoding
            model.resize_token_embeddings(size + count, mean_resizing=False)
        return tuple(range(size, size + count))

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Return the weights by name; tied ones, as BART's embeddings are, once."""
        found: dict[int, tuple[str, torch.Tensor]] = {}
        for name, tensor in self.model.state_dict().items():
            found.setdefault(tensor.data_ptr(), (name, tensor))
        return dict(found.values())

    def _put(self, tensors: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in self._tensors().items():
                tensor.copy_(tensors[name])

    def _special_tokens(self) -> tuple[list[int], list[int]]:
        bare = self._tokenizer("a", add_special_tokens=False)["input_ids"]
        full = self._tokenizer("a")["input_ids"]
        start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
        return full[:start], full[start + len(bare) :]

    def mask(self) -> int:
        """Return the id of the piece that hides another; raise ConfigError where the tokenizer has none."""
        if self._tokenizer.mask_token_id is None:
            raise ConfigError(
                "this backbone's tokenizer has no mask",
                where="train.model",
                fix="take a backbone that was trained as a masked language model",
            )
        return int(self._tokenizer.mask_token_id)

    def restore(self) -> None:
        """Bring the pretrained weights back."""
        self._put(self._original)

    def start(self, folder: Path | None) -> None:
        """Take the weights that ``save`` wrote to ``folder``; without one, the pretrained ones."""
        if folder is None:
            self.restore()
        else:
            self.load(folder)

    def save(self, folder: Path) -> None:
        """Write the weights to ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.contiguous() for name, tensor in self._tensors().items()}
        save_file(tensors, folder / WEIGHTS)
        (folder / WEIGHTS).chmod(0o644)

    def load(self, folder: Path) -> None:
        """Take the weights that ``save`` wrote; raise DataError when they are not there or of another encoder."""
        path = folder / WEIGHTS
        if not path.exists():
            raise DataError("the run to start from has no encoder", where=str(path), fix="start from an encoder's run")
        tensors = load_file(path)
        if {n: t.shape for n, t in tensors.items()} != {n: t.shape for n, t in self._tensors().items()}:
            raise DataError(
                "these weights belong to another encoder", where=str(path), fix="use the same backbone in both runs"
            )
        self._put(tensors)

    def windows(self, words: Sequence[str]) -> list[Window]:
        """Cut a sentence into consecutive windows at word borders; a word longer than a window loses its rest.

        Each word is encoded by itself after a space, as it stands in a text; tokenizers that cut at spaces, BERT's
        among them, give the pieces that they give without it.
        """
        if not words:
            return []
        coded = self._tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"]
        pieces = [ids[: self._room] for ids in coded]
        groups: list[list[int]] = []
        room = 0
        for word, ids in enumerate(pieces):
            if not ids:
                continue
            if len(ids) > room:
                groups.append([])
                room = self._room
            groups[-1].append(word)
            room -= len(ids)
        return [self._window(group, pieces) for group in groups]

    def _window(self, group: list[int], pieces: list[list[int]]) -> Window:
        ids = list(self._head)
        first = []
        for word in group:
            first.append(len(ids))
            ids += pieces[word]
        return Window((*ids, *self._tail), tuple(first), tuple(group))

    def states(self, windows: Sequence[Window]) -> torch.Tensor:
        """Return the vectors (words, size) of all words of ``windows``, window after window; keeps the gradient."""
        ids, mask = pad([window.ids for window in windows], self._pad, left=False)
        rows = torch.tensor([row for row, w in enumerate(windows) for _ in w.first])
        columns = torch.tensor([position for w in windows for position in w.first])
        hidden = self.read(ids.to(self.device), mask.to(self.device))
        found: torch.Tensor = hidden[rows.to(self.device), columns.to(self.device)].float()
        return found

    def piece_states(self, windows: Sequence[Window]) -> tuple[torch.Tensor, list[tuple[int, int]]]:
        """Return the vectors of all pieces of the words of ``windows``, and which are whose; keeps the gradient.

        Returns:
            Vectors (pieces, size), window after window, without special tokens; and the range of rows (start, end
            exclusive) of each word that has a piece. The rows of words in a row follow on each other.
        """
        whole, ranges, passed = [], [], 0
        for window in windows:
            begin, end = window.first[0], len(window.ids) - self.tail
            whole.append(replace(window, first=tuple(range(begin, end))))
            for start, stop in zip(window.first, (*window.first[1:], end), strict=True):
                ranges.append((passed + start - begin, passed + stop - begin))
            passed += end - begin
        return self.states(whole), ranges

    def read(self, ids: torch.Tensor, mask: torch.Tensor | None, **more: Any) -> torch.Tensor:
        """Return the vectors (rows, pieces, size) of all pieces; ``more`` goes to the model."""
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, **more}
        if self._decodes:
            # Given explicitly: transformers shifts the pieces right when they are not.
            inputs |= {"decoder_input_ids": ids, "decoder_attention_mask": mask, "use_cache": False}
        with precision(self.device, autocast=self._autocast):
            output: Any = self.model(**inputs, output_hidden_states=self._layers == "sum4")
        hidden: torch.Tensor = output.last_hidden_state
        if self._layers == "sum4":
            layers = output.decoder_hidden_states if self._decodes else output.hidden_states
            hidden = torch.stack(layers[-4:]).sum(0)
        return hidden

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


def _positions(model: Any, most: int) -> int:
    """Return how many pieces the model has positions for; ``most`` where it has no table of them.

    RoBERTa's positions begin behind the number of the padding piece, so that its table of 514 is for 512 pieces.
    """
    size = int(getattr(model.config, "max_position_embeddings", most))
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return size if padding is None else size - padding - 1
