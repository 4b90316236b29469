"""Token classification: an encoder, a linear layer on each word's first piece, cross-entropy over words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from fewtable.corpus import Sentence, entities_to_tags
from fewtable.files import read_json, write_json
from fewtable.training.encoder import Encoder, Window


@dataclass(frozen=True, slots=True)
class Labelled:
    """A sentence to learn: its windows and the tag index of each word that has a piece."""

    windows: tuple[Window, ...]
    labels: tuple[int, ...]


class TagModel(torch.nn.Module):
    """Encoder + dropout + linear layer over ``tags`` (methods/04)."""

    def __init__(self, encoder: Encoder, tags: Sequence[str], dropout: float) -> None:
        super().__init__()
        self.encoder = encoder.model
        self.dropout = torch.nn.Dropout(dropout)
        self.head = torch.nn.Linear(encoder.size, len(tags)).to(encoder.device)
        torch.nn.init.normal_(self.head.weight, std=0.02)
        torch.nn.init.zeros_(self.head.bias)
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
        """Return the sum of the words' cross-entropy, and the number of words."""
        states = self._states.states([w for e in examples for w in e.windows])
        gold = torch.tensor([label for e in examples for label in e.labels], device=states.device)
        logits = self.head(self.dropout(states))
        return torch.nn.functional.cross_entropy(logits, gold, reduction="sum"), float(len(gold))

    def tag(self, sentences: Sequence[Sequence[str]]) -> Iterator[list[str]]:
        """Yield the best tag of each word; words without a piece are O."""
        windows = [self._states.windows(words) for words in sentences]
        found = [["O"] * len(words) for words in sentences]
        for index, vectors in self._states.vectors(windows):
            with torch.inference_mode():
                best = self.head(vectors).argmax(-1).tolist()
            for word, number in zip((i for w in windows[index] for i in w.words), best, strict=True):
                found[index][word] = self.tags[number]
        yield from found

    def save(self, folder: Path) -> None:
        """Write encoder, head and tags to ``folder``."""
        self._states.save(folder)
        save_file(dict(self.head.state_dict()), folder / "head.safetensors")
        (folder / "head.safetensors").chmod(0o644)
        write_json(folder / "tags.json", list(self.tags))

    @classmethod
    def load(cls, encoder: Encoder, folder: Path) -> TagModel:
        """Return the model that ``save`` wrote, ready to tag."""
        encoder.load(folder)
        model = cls(encoder, read_json(folder / "tags.json"), dropout=0.0)
        model.head.load_state_dict(load_file(folder / "head.safetensors"))
        return model.eval()
