"""MSDP's pre-training (Dong et al., CIKM 2023; methods/fs-08, stage A): an encoder learns on episodes of a source.

Two losses at once. Demonstration-based masked language modelling: the entities of a query sentence are masked, and
after the sentence stands for each type a statement, "entity is type", of the support. Class contrast: the vectors of
entities of one type are pulled together and those of other types pushed away (Khosla et al. 2020, equation 2).

An approximation. Of the released scripts the first sets its labels beside the wrong pieces and the second compares
whole texts by the logits of all words; here labels stand at their pieces, and entities are compared, as the paper says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy, normalize

from fewtable.errors import ConfigError
from fewtable.training.encoder import Encoder, Window
from fewtable.training.episode import Episode
from fewtable.training.span_proto import Spans, Stretch, gold_words, means, stretches
from fewtable.training.spans import SpanModel


def word_head(folder: Path, encoder: Encoder) -> torch.nn.Module:
    """Return what makes scores of words from states: the backbone's own where it has it, else random.

    Its matrix of words is the encoder's.

    Raises:
        ConfigError: the backbone's architecture has no such head, or not in one part.
    """
    from transformers import AutoModelForMaskedLM
    from transformers.utils import logging

    usual = logging.get_verbosity()
    logging.set_verbosity_error()  # a head that the backbone lacks is no corrupt checkpoint
    try:
        model: Any = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        (head,) = (child for child in model.children() if child is not model.base_model)
    except ValueError:
        raise ConfigError(
            "this backbone is no masked language model in one part", where="train.model", fix="take a BERT or a RoBERTa"
        ) from None
    finally:
        logging.set_verbosity(usual)
    words: Any = encoder.model
    model.get_output_embeddings().weight = words.get_input_embeddings().weight
    found: torch.nn.Module = head
    return found


def statements(encoder: Encoder, episode: Episode) -> list[tuple[int, ...]]:
    """Return the pieces of "entity is type" and of the end of a text, for the first support entity of each type."""
    found = []
    for name in episode.types:
        mentions = ((s, e) for s in episode.support for e in s.entities if e.type == name)
        for sentence, entity in mentions:
            words = (*sentence.words[entity.start : entity.end], "is", *filter(None, re.split(r"[\W_]+", name)))
            window = encoder.windows(words)[0]
            found.append(window.ids[window.first[0] :])
            break
    return found


def masked(part: Stretch, mask: int, after: Sequence[tuple[int, ...]], longest: int) -> tuple[Window, list[int]]:
    """Return a text without its entities' pieces, which are asked, and what they are.

    Args:
        part: with entities.
        mask: the piece that stands for another.
        after: statements; those that would make the text longer than ``longest`` pieces are left out.
        longest: most pieces.
    """
    ids = list(part.window.ids)
    asked = sorted({p for e in part.gold for p in range(part.window.first[e.start], part.last[e.end - 1] + 1)})
    right = [ids[place] for place in asked]
    for place in asked:
        ids[place] = mask
    for statement in after:
        if len(ids) + len(statement) <= longest:
            ids += statement
    return Window(tuple(ids), tuple(asked), ()), right


def class_contrast(vectors: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the mean over entities of -log of the share of another entity of the same type, mean over those.

    Shares are of a softmax of cosine / temperature over all other entities. Entities alone of their type have none.

    Args:
        vectors: (n, d).
        labels: (n) numbers of the types.
        temperature: of the softmax.
    """
    if len(vectors) < 2:
        return vectors.sum() * 0  # a softmax over nothing is no number
    unit = normalize(vectors, dim=-1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    shares = (unit @ unit.T / temperature).masked_fill(itself, -torch.inf).log_softmax(-1)
    same = (labels[:, None] == labels) & ~itself
    counts = same.sum(1)
    each = -shares.masked_fill(~same, 0).sum(1) / counts.clamp_min(1)
    return each.sum() / (counts > 0).sum().clamp_min(1)


class Pretraining(SpanModel):
    """The encoder, and the head of its masked words.

    Args:
        encoder: what is pre-trained.
        head: see ``word_head``.
        temperature: of the class contrast.

    Raises:
        ConfigError: the tokenizer has no mask.
    """

    def __init__(self, encoder: Encoder, head: torch.nn.Module, temperature: float) -> None:
        super().__init__(encoder, head)
        self._mask, self._temperature = encoder.mask(), temperature

    def loss(self, episode: Episode) -> tuple[torch.Tensor, float]:
        """Return the mean loss of the masked pieces of the query plus the contrast of all entities, and 1."""
        query = [part for part in stretches(self.read(episode.query), self.pieces.tail) if part.gold]
        support = [part for part in stretches(self.read(episode.support), self.pieces.tail) if part.gold]
        if not query and not support:
            return self.nothing()
        total = next(self.parameters()).sum() * 0
        if query:
            after = statements(self.pieces, episode)
            rows = [masked(part, self._mask, after, self.pieces.longest) for part in query]
            right = torch.tensor([piece for _, pieces in rows for piece in pieces], device=self.pieces.device)
            total = total + cross_entropy(self.heads(self.pieces.states([window for window, _ in rows])), right)
        parts = [*support, *query]
        states, _ = self.padded([part.window for part in parts])
        vectors = means(states, Spans.of_words(gold_words(parts, states.device), parts))
        labels = torch.tensor([episode.types.index(e.type) for p in parts for e in p.gold], device=states.device)
        return total + class_contrast(vectors, labels, self._temperature), 1.0

    def save(self, folder: Path) -> None:
        """Write the encoder alone: who starts from it has other heads."""
        self.pieces.save(folder)
