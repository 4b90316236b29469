"""Token classification: an encoder, a linear layer on each word's first piece, cross-entropy over words or a CRF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from fewtable.corpus import Sentence, entities_to_tags
from fewtable.files import read_json, write_json
from fewtable.training.crf import Crf
from fewtable.training.encoder import Encoder, Window

CRF = "crf."
"""Prefix of the CRF's tensors beside those of the linear layer."""


def tag_inventory(types: Sequence[str]) -> list[str]:
    """Return O and every type's B and I tag, whether the support has them or not."""
    return ["O", *(f"{prefix}-{name}" for name in types for prefix in "BI")]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A sentence to learn: its windows and the tag index of each word that has a piece."""

    windows: tuple[Window, ...]
    labels: tuple[int, ...]


class TagModel(torch.nn.Module):
    """Encoder + dropout + linear layer over ``tags``, and a CRF where its rate is given (methods/04)."""

    def __init__(self, encoder: Encoder, tags: Sequence[str], dropout: float, crf: float | None = None) -> None:
        super().__init__()
        self.encoder = encoder.model
        self.dropout = torch.nn.Dropout(dropout)
        self.head = torch.nn.Linear(encoder.size, len(tags)).to(encoder.device)
        torch.nn.init.normal_(self.head.weight, std=0.02)
        torch.nn.init.zeros_(self.head.bias)
        self.crf = None if crf is None else Crf(len(tags), crf).to(encoder.device)
        self.tags = tuple(tags)
        self._states = encoder

    def prepare(self, sentences: Sequence[Sentence]) -> list[Labelled]:
        """Return the sentences as BIO examples; those without any piece are left out."""
        index = {tag: number for number, tag in enumerate(self.tags)}
        found = []
        for sentence in sentences:
            windows = tuple(self._states.windows(sentence.words))
            tags = entities_to_tags(sentence.entities, len(sentence.words))
            if windows:
                found.append(Labelled(windows, tuple(index[tags[i]] for w in windows for i in w.words)))
        return found

    def loss(self, examples: Sequence[Labelled]) -> tuple[torch.Tensor, float]:
        """Return the sum of the negative log-likelihoods, and the number of words.

        Without a CRF a word's likelihood is the softmax over its tags, with one it is the sentence's.
        """
        states = self._states.states([w for e in examples for w in e.windows])
        gold = torch.tensor([label for e in examples for label in e.labels], device=states.device)
        logits = self.head(self.dropout(states))
        if self.crf is None:
            return torch.nn.functional.cross_entropy(logits, gold, reduction="sum"), float(len(gold))
        sizes = [len(e.labels) for e in examples]
        return self.crf.loss(torch.split(logits, sizes), torch.split(gold, sizes)), float(len(gold))

    def tag(self, sentences: Sequence[Sequence[str]]) -> Iterator[list[str]]:
        """Yield the best tag of each word, or the words' best tags together; words without a piece are O."""
        windows = [self._states.windows(words) for words in sentences]
        logits: dict[int, torch.Tensor] = {}
        for index, vectors in self._states.vectors(windows):
            with torch.inference_mode():
                logits[index] = self.head(vectors)
        scores = [logits[index] for index in range(len(sentences))]
        paths = self.crf.best(scores) if self.crf else [s.argmax(-1).tolist() for s in scores]
        for words, cut, path in zip(sentences, windows, paths, strict=True):
            tags = ["O"] * len(words)
            for word, number in zip((i for w in cut for i in w.words), path, strict=True):
                tags[word] = self.tags[number]
            yield tags

    def save(self, folder: Path) -> None:
        """Write encoder, head and tags to ``folder``."""
        self._states.save(folder)
        tensors = dict(self.head.state_dict())
        if self.crf is not None:
            tensors |= {f"{CRF}{name}": tensor for name, tensor in self.crf.state_dict().items()}
        save_file(tensors, folder / "head.safetensors")
        (folder / "head.safetensors").chmod(0o644)
        write_json(folder / "tags.json", list(self.tags))

    @classmethod
    def load(cls, encoder: Encoder, folder: Path, crf: float | None = None) -> TagModel:
        """Return the model that ``save`` wrote, ready to tag."""
        encoder.load(folder)
        model = cls(encoder, read_json(folder / "tags.json"), dropout=0.0, crf=crf)
        tensors = load_file(folder / "head.safetensors")
        chain = {name.removeprefix(CRF): tensors.pop(name) for name in list(tensors) if name.startswith(CRF)}
        model.head.load_state_dict(tensors)
        if model.crf is not None:
            model.crf.load_state_dict(chain)
        return model.eval()
