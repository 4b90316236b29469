"""Word vectors of an encoder that serves many draws: its weights are read once, and a sentence is encoded once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from fewtable.corpus import Sentence
from fewtable.training.encoder import WEIGHTS, Encoder, Window

LIMIT = 256 * 2**20
"""Bytes of word vectors that are kept."""
Stamp = tuple[int, int, int, int]
PRETRAINED: Stamp = (0, 0, 0, 0)


class Words:
    """An encoder, and the vectors that it gave since its weights last changed.

    On a CPU each sentence is encoded alone, so that its vectors depend on nothing else: not on the draw, nor on what
    was encoded before. A forward of one sentence is nearly as fast there as its share of a batch. On a GPU, where it is
    not, the sentences of a call go together, and nothing is kept for the next: the rounding depends on the batch.

    Args:
        encoder: trained by others, who say so with ``changed``.
        normalise: bring word vectors to length 1.
        limit: bytes of vectors that are kept; the oldest go first.
    """

    def __init__(self, encoder: Encoder, *, normalise: bool, limit: int = LIMIT) -> None:
        self.encoder = encoder
        self._normalise = normalise
        self._limit = limit
        self._alone = encoder.device.type == "cpu"
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
        missing = [words for words in dict.fromkeys(sentences) if words not in self._kept]
        for group in [[words] for words in missing] if self._alone else [missing]:
            self._encode(group)
        found = [self._kept[words] for words in sentences]
        self._forget()
        return [vectors for vectors, _ in found], [places for _, places in found]

    def _encode(self, sentences: Sequence[tuple[str, ...]]) -> None:
        windows = [self.encoder.windows(words) for words in sentences]
        for index, vectors in self.encoder.vectors(windows):
            if self._normalise:
                with torch.inference_mode():
                    vectors = torch.nn.functional.normalize(vectors, dim=-1)
            self._kept[sentences[index]] = vectors, [i for w in windows[index] for i in w.words]
            self._bytes += vectors.nbytes

    def _forget(self) -> None:
        while self._kept and (self._bytes > self._limit or not self._alone):
            oldest = next(iter(self._kept))
            self._bytes -= self._kept.pop(oldest)[0].nbytes

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return a vector (texts, size) of each text as a whole, without gradient."""
        with torch.inference_mode():
            return torch.cat([self.encoder.states([whole(self.encoder, text)]) for text in texts])


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
