"""Word vectors of an encoder that serves many draws: its weights are read once, and a sentence is encoded once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from fewtable.corpus import Sentence
from fewtable.training import unpadded
from fewtable.training.encoder import WEIGHTS, Encoder, Window

LIMIT = 2**30
"""Bytes of word vectors that are kept."""
Stamp = tuple[int, int, int, int]
PRETRAINED: Stamp = (0, 0, 0, 0)


class Words:
    """An encoder, and the vectors that it gave since its weights last changed.

    On a CPU sentences lie end to end in a forward, where their vectors depend on nothing else: not on the draw, nor on
    what was encoded before. Elsewhere the rounding depends on the batch, and nothing is kept for the next call.

    Args:
        encoder: trained by others, who say so with ``changed``.
        normalise: bring word vectors to length 1.
        limit: bytes of vectors that are kept; the oldest go first.
    """

    def __init__(self, encoder: Encoder, *, normalise: bool, limit: int = LIMIT) -> None:
        self.encoder = encoder
        self._normalise = normalise
        self._limit = limit
        self._keeps = unpadded.reads(encoder)
        self._kept: dict[tuple[str, ...], tuple[torch.Tensor, list[int]]] = {}
        self._bytes = 0
        self._weights: Stamp | None = PRETRAINED

    def start(self, folder: Path | None) -> None:
        """Take the weights that lie in ``folder`` (None: the pretrained ones), unless they are those it has.

        Raises:
            DataError: no weights lie there, or those of another encoder.
        """
        stamp = PRETRAINED
        if folder is not None and (folder / WEIGHTS).exists():
            found = (folder / WEIGHTS).stat()
            stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if stamp != self._weights or (folder is not None and stamp == PRETRAINED):
            self.encoder.start(folder)
            self.changed()
            self._weights = stamp

    def changed(self) -> None:
        """Forget all vectors: the weights are others."""
        self._weights = None
        self._kept.clear()
        self._bytes = 0

    def __call__(self, sentences: Sequence[tuple[str, ...]]) -> tuple[list[torch.Tensor], list[list[int]]]:
        """Return the vectors (words, size) of each sentence, and the indices of the words that have one."""
        self._encode([words for words in dict.fromkeys(sentences) if words not in self._kept])
        found = [self._kept[words] for words in sentences]
        self._forget()
        return [vectors for vectors, _ in found], [places for _, places in found]

    def _encode(self, sentences: Sequence[tuple[str, ...]]) -> None:
        windows = [self.encoder.windows(words) for words in sentences]
        places = [[i for w in ws for i in w.words] for ws in windows]
        with torch.inference_mode():
            if self._keeps:
                states = unpadded.states(self.encoder, [w for ws in windows for w in ws])
                found = torch.split(states, [len(at) for at in places])
            else:
                padded = dict(self.encoder.vectors(windows))
                found = tuple(padded[i] for i in range(len(windows)))
            for words, at, vectors in zip(sentences, places, found, strict=True):
                own = torch.nn.functional.normalize(vectors, dim=-1) if self._normalise else vectors.clone()
                self._kept[words] = own, at
                self._bytes += own.nbytes

    def _forget(self) -> None:
        while self._kept and (self._bytes > self._limit or not self._keeps):
            oldest = next(iter(self._kept))
            self._bytes -= self._kept.pop(oldest)[0].nbytes

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return a vector (texts, size) of each text as a whole, without gradient."""
        with torch.inference_mode():
            return self.encoder.states([whole(self.encoder, text) for text in texts])


def whole(encoder: Encoder, text: str) -> Window:
    """Return a text's window whose one vector is the state of its first piece, BERT's [CLS]."""
    window = encoder.windows(text.split())[0]
    return Window(window.ids, (0,), (0,))


def hand_on(init: Path, model: Path, *names: str) -> None:
    """Give ``model`` the files ``names`` of ``init``, those that are there: what was not trained further.

    They are one file under two names where the file system can do that: thousands of draws start from one source.
    """
    model.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not (init / name).exists():
            continue
        (model / name).unlink(missing_ok=True)
        try:
            os.link(init / name, model / name)
        except OSError:
            shutil.copyfile(init / name, model / name)


def tagged(
    sentences: Sequence[Sentence], places: Sequence[Sequence[int]], paths: Sequence[Sequence[int]], names: Sequence[str]
) -> Iterator[list[str]]:
    """Yield the tags of each sentence; words without a vector are O.

    Args:
        sentences: whose words are tagged.
        places: indices of each sentence's words that have a vector.
        paths: their classes.
        names: of the classes.
    """
    for sentence, at, path in zip(sentences, places, paths, strict=True):
        tags = ["O"] * len(sentence.words)
        for word, number in zip(at, path, strict=True):
            tags[word] = names[number]
        yield tags
