"""Pointer generation over BART: positions of the source and types from one softmax (methods/06 and 07).

A target vocabulary of its own for every window: sos, eos, the types, then the positions of the window's pieces.
BARTNER trains all weights; LightNER trains prefix prompts and a verbaliser over a BART that stays as it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from fewtable.corpus import Entity, EntityType, Sentence
from fewtable.decoding.generate import pad
from fewtable.errors import DataError
from fewtable.files import read_json, write_json
from fewtable.training.device import precision
from fewtable.training.encoder import Encoder, Window
from fewtable.training.pointer_prompts import IMPLEMENTATION, Prefix, Prompts

SOS, EOS, FIRST_TYPE = 0, 1, 2
"""The target vocabulary begins with these; the positions follow the types."""
WEIGHTS = "pointer.safetensors"
TYPES = "types.json"


@dataclass(frozen=True, slots=True)
class Row:
    """A window to learn and what is to be written for it, in its target vocabulary, ``EOS`` last."""

    window: Window
    target: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Windows as the decoder needs them; n is the size of the largest target vocabulary among them."""

    states: torch.Tensor
    """(windows, pieces, d) of the encoder."""
    mask: torch.Tensor
    """(windows, pieces), 1 where there is a piece."""
    inputs: torch.Tensor
    """(windows, n, d): what the decoder reads for each token of the target vocabulary."""
    outputs: torch.Tensor
    """(windows, n, d): what a decoder state is multiplied with to score each token."""
    legal: torch.Tensor
    """(windows, n), false for sos, ``<s>``, ``</s>`` and padding."""
    prefix: Prefix | None


class NewLabels(torch.nn.Module):
    """A new token for each type, at first the mean of the pieces of its words (BARTNER)."""

    def __init__(self, embeddings: torch.Tensor, pieces: Sequence[Sequence[int]]) -> None:
        super().__init__()
        means = [embeddings.detach()[list(ids)].mean(0) for ids in pieces]
        self.rows = torch.nn.Parameter(torch.stack(means))

    def forward(self, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what stands for the types (types, d) in the decoder's input and in its output."""
        return self.rows, self.rows


class Verbaliser(torch.nn.Module):
    """The types by the pieces of their words: the first one is read, a weighted mean is scored (LightNER)."""

    def __init__(self, pieces: Sequence[Sequence[int]]) -> None:
        super().__init__()
        ids, real = pad(pieces, 0, left=False)
        self.ids: torch.Tensor
        self.real: torch.Tensor
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("real", real.bool(), persistent=False)
        self.weights = torch.nn.Parameter(torch.empty(ids.shape).uniform_(1.0, 2.5))

    def forward(self, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what stands for the types (types, d) in the decoder's input and in its output."""
        shares = self.weights.masked_fill(~self.real, -torch.inf).softmax(-1)
        vectors = embeddings[self.ids]
        return vectors[:, 0], (shares[:, :, None] * vectors).sum(1)


class PointerModel(torch.nn.Module):
    """BART, label vectors, and how source positions are scored.

    Args:
        encoder: holds the BART; its weights are used as they stand and, without prompts, trained.
        types: in the order of the target vocabulary.
        dtype: ``float32``, or ``bfloat16`` for autocast over float32 weights.
        dropout: on decoder states, label vectors and source embeddings.
        prompts: (length, width) for LightNER; None for BARTNER.
    """

    def __init__(
        self,
        encoder: Encoder,
        types: Sequence[EntityType],
        dtype: str,
        dropout: float,
        prompts: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        self._encoder = encoder
        self._dtype = dtype
        self.types = tuple(types)
        self.bart = cast(Any, encoder.model)
        self.bart.requires_grad_(prompts is None)
        self.dropout = torch.nn.Dropout(dropout)
        size = encoder.size
        pieces = [[i for w in encoder.windows(t.words.split()) for i in w.ids[1:-1]] for t in types]
        self.labels: NewLabels | Verbaliser
        self.prompts: Prompts | None
        if prompts is None:
            self.labels = NewLabels(self._embeddings, pieces)
            hidden = torch.nn.Linear(size, size), torch.nn.Dropout(dropout), torch.nn.ReLU()
            self.mlp: torch.nn.Module = torch.nn.Sequential(*hidden, torch.nn.Linear(size, size))
            self.prompts = None
        else:
            self.labels = Verbaliser(pieces)
            self.mlp = torch.nn.Identity()
            self.prompts = Prompts(self.bart.config, *prompts)
            self.bart.set_attn_implementation(IMPLEMENTATION)
        self.to(encoder.device)

    @property
    def _embeddings(self) -> torch.Tensor:
        weights: torch.Tensor = self.bart.get_input_embeddings().weight
        return weights

    @property
    def longest(self) -> int:
        """Most tokens that the decoder can write."""
        return int(self.bart.config.max_position_embeddings)

    def prepare(self, sentences: Sequence[Sentence]) -> list[Row]:
        """Return the sentences' windows with their targets; sentences without any piece have none.

        A target has for each entity, by start, the first piece of each of its words and then its type. Entities
        that a border of windows cuts are left out.
        """
        return [Row(w, self._target(w, s.entities)) for s in sentences for w in self._encoder.windows(s.words)]

    def windows(self, words: Sequence[str]) -> list[Window]:
        """Cut a sentence as ``prepare`` does."""
        return self._encoder.windows(words)

    def _target(self, window: Window, entities: Sequence[Entity]) -> tuple[int, ...]:
        number = {t.name: FIRST_TYPE + i for i, t in enumerate(self.types)}
        shift = FIRST_TYPE + len(self.types)
        place = dict(zip(window.words, window.first, strict=True))
        found: list[int] = []
        for start, end, kind in sorted(entities):
            pointers = [shift + place[word] for word in range(start, end) if word in place]
            if pointers and window.words[0] <= start and end - 1 <= window.words[-1]:
                found += [*pointers, number[kind]]
        return (*found, EOS)

    def spell(self, window: Window, tokens: Sequence[int]) -> list[Any]:
        """Return tokens of a window's target vocabulary as format ``pointer`` reads them, untouched otherwise."""
        shift = FIRST_TYPE + len(self.types)
        found: list[Any] = []
        for token in tokens:
            if token < shift:
                found.append(self.types[token - FIRST_TYPE].name)
                continue
            index = bisect_right(window.first, token - shift) - 1
            word, piece = window.words[index], token - shift - window.first[index]
            found.append([word, piece] if piece else word)
        return found

    def read(self, windows: Sequence[Window]) -> Source:
        """Encode windows, once for all tokens that are written for them; keeps the gradient.

        Score vectors of positions are (MLP(state) + embedding) / 2, without the MLP in LightNER (methods/06, Model).
        """
        special = self.bart.config
        ids, mask = pad([w.ids for w in windows], special.pad_token_id, left=False)
        ids, mask = ids.to(self._encoder.device), mask.to(self._encoder.device)
        prefix = self.prompts() if self.prompts is not None else None
        states = self._run(self.bart.encoder, prefix, input_ids=ids, attention_mask=mask)
        embeddings, scale = self._embeddings, self.bart.get_input_embeddings().embed_scale
        read, scored = self.labels(embeddings)
        ends = embeddings[[special.bos_token_id, special.eos_token_id]]
        pieces = embeddings[ids]

        def table(first: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
            return torch.cat([first.expand(len(windows), -1, -1), rest], 1)

        positions = (self.mlp(states) + self.dropout(pieces)) / 2
        legal = torch.zeros(len(windows), FIRST_TYPE + len(self.types) + ids.shape[1], dtype=torch.bool)
        legal[:, EOS : FIRST_TYPE + len(self.types)] = True
        for row, window in enumerate(windows):
            legal[row, FIRST_TYPE + len(self.types) :][1 : len(window.ids) - 1] = True
        return Source(
            states=states,
            mask=mask,
            inputs=table(torch.cat([ends, read]), pieces) * scale,
            outputs=table(self.dropout(torch.cat([ends, scored])), positions),
            legal=legal.to(ids.device),
            prefix=prefix,
        )

    def scores(self, source: Source, tokens: torch.Tensor, cache: Any = None) -> torch.Tensor:
        """Return the scores (windows, length, n) of the token after each of ``tokens`` (windows, length).

        With a ``cache`` (transformers' ``EncoderDecoderCache``) the tokens follow those of the calls before.
        """
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        hidden = self._run(
            self.bart.decoder,
            source.prefix,
            inputs_embeds=source.inputs[rows, tokens],
            encoder_hidden_states=source.states,
            encoder_attention_mask=source.mask,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        scores: torch.Tensor = self.dropout(hidden) @ source.outputs.transpose(1, 2)
        return scores.masked_fill(~source.legal[:, None], -torch.inf)

    def _run(self, part: Any, prefix: Prefix | None, **inputs: Any) -> torch.Tensor:
        extra = {} if prefix is None else {"prefix": prefix}
        with precision(self._encoder.device, autocast=self._dtype == "bfloat16"):
            hidden: torch.Tensor = part(**inputs, **extra).last_hidden_state
        return hidden.float()

    def loss(self, rows: Sequence[Row]) -> tuple[torch.Tensor, float]:
        """Return the sum of the target tokens' cross-entropy with the gold tokens before them, and their number."""
        device = self._encoder.device
        source = self.read([row.window for row in rows])
        tokens, _ = pad([(SOS, *row.target[:-1]) for row in rows], EOS, left=False)
        gold, real = pad([row.target for row in rows], -100, left=False)
        scores = self.scores(source, tokens.to(device))
        return cross_entropy(scores.flatten(0, 1), gold.to(device).flatten(), reduction="sum"), float(real.sum())

    def _own(self) -> dict[str, torch.Tensor]:
        """Return the weights that are not BART's, by name."""
        return {name: p.detach() for name, p in self.named_parameters() if not name.startswith("bart.")}

    def save(self, folder: Path) -> None:
        """Write what was trained, and the types, to ``folder``."""
        if self.prompts is None:
            self._encoder.save(folder)
        save_file({name: p.contiguous() for name, p in self._own().items()}, folder / WEIGHTS)
        (folder / WEIGHTS).chmod(0o644)
        write_json(folder / TYPES, [t.name for t in self.types])

    def take(self, folder: Path, *, labels: bool) -> None:
        """Take the weights that ``save`` wrote, BART's apart; ``labels``: those of the types too.

        Raises:
            DataError: they are not there, or belong to another kind or shape of model.
        """
        path = folder / WEIGHTS
        if not path.exists():
            raise DataError(
                "the run to start from is no pointer model", where=str(path), fix="start from a run of this family"
            )
        wanted = {name: p for name, p in self._own().items() if labels or not name.startswith("labels.")}
        found = {name: p for name, p in load_file(path).items() if labels or not name.startswith("labels.")}
        if {n: p.shape for n, p in found.items()} != {n: p.shape for n, p in wanted.items()}:
            raise DataError(
                "these weights belong to another pointer model",
                where=str(path),
                fix="use the same backbone and train.prompts in both runs",
            )
        with torch.no_grad():
            for name, parameter in wanted.items():
                parameter.copy_(found[name])


def saved_types(folder: Path) -> list[str]:
    """Return the names of the types that ``save`` wrote, in order."""
    return [str(name) for name in read_json(folder / TYPES)]
