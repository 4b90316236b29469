"""DecomMeta's two models (Ma et al. 2022; methods/fs-06): where entities are, and of which type.

The span model tags words B, I, E, S or O, whatever the type. The type model compares a span, the mean of its pieces
after a layer norm, with the mean of each type's support spans. Both learn by ``training.meta``; embeddings are frozen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from fewtable.corpus import entities_to_tags, tags_to_entities
from fewtable.decoding.transitions import bioes, viterbi
from fewtable.errors import DataError
from fewtable.training.encoder import LAYOUT_BATCH, Encoder
from fewtable.training.episode import Episode
from fewtable.training.meta import Learner
from fewtable.training.metric import answerable_loss, prototypes
from fewtable.training.spans import Text, read

TAGS = ("O", "B-e", "I-e", "E-e", "S-e")
"""The span model's classes, in the order of ``transitions.bioes``."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """An episode as the models see it."""

    types: tuple[str, ...]
    support: list[Text]
    query: list[Text]


def lesson(encoder: Encoder, episode: Episode) -> Lesson:
    """Return an episode as the models see it."""
    support, query = ([read(encoder, sentence) for sentence in part] for part in (episode.support, episode.query))
    return Lesson(episode.types, support, query)


class Part(Learner[Lesson]):
    """An encoder with frozen embeddings and what stands on it."""

    key: str
    """Name of its weights in a model folder, and of its checkpoints."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder.model
        for name, parameter in encoder.model.named_parameters():
            parameter.requires_grad = "embeddings" not in name
        self._states = encoder

    def start(self, folder: Path | None) -> None:
        """Take the weights that ``save`` wrote to ``folder``; without one, the encoder's pretrained ones.

        Raises:
            DataError: they are not there, or of another encoder.
        """
        self._states.restore()
        if folder is None:
            return
        path, own = self._file(folder), self._tensors()
        if not path.exists():
            raise DataError(
                "the run to start from has no such model", where=str(path), fix="start from a decom-meta run"
            )
        tensors = load_file(path)
        if {n: t.shape for n, t in tensors.items()} != {n: t.shape for n, t in own.items()}:
            raise DataError(
                "these weights belong to another encoder", where=str(path), fix="use the same backbone in both runs"
            )
        for name, tensor in own.items():
            tensor.copy_(tensors[name])

    def save(self, folder: Path) -> None:
        """Write the trained weights; the embeddings are the backbone's."""
        tensors = {name: tensor.contiguous() for name, tensor in self._tensors().items()}
        save_file(tensors, self._file(folder))
        self._file(folder).chmod(0o644)

    def _file(self, folder: Path) -> Path:
        return folder / f"{self.key}.safetensors"

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}


class SpanTagger(Part):
    """Encoder + dropout + linear layer over ``TAGS`` on each word's first piece.

    Args:
        encoder: shared with what comes after it.
        dropout: on word vectors.
        worst: weights lambda of the support's and the query's hardest words, see ``loss``.
    """

    key = "spans"

    def __init__(self, encoder: Encoder, dropout: float, worst: tuple[float, float]) -> None:
        super().__init__(encoder)
        self.dropout = torch.nn.Dropout(dropout)
        self.head = torch.nn.Linear(encoder.size, len(TAGS)).to(encoder.device)
        torch.nn.init.normal_(self.head.weight, std=0.02)
        torch.nn.init.zeros_(self.head.bias)
        self._worst = worst

    def support_loss(self, task: Lesson) -> torch.Tensor:
        """Return the loss of the support."""
        return self.loss(task.support, self._worst[0])

    def query_loss(self, task: Lesson) -> torch.Tensor:
        """Return the loss of the query."""
        return self.loss(task.query, self._worst[1])

    def loss(self, texts: Sequence[Text], worst: float) -> torch.Tensor:
        """Return the mean cross-entropy of words + ``worst`` * the mean over sentences of their largest one."""
        texts = [t for t in texts if t.words]
        if not texts:
            return self.head.weight.sum() * 0
        tags = [entities_to_tags([e._replace(type="e") for e in t.gold], len(t.words), "bioes") for t in texts]
        logits = self.head(self.dropout(self._states.states([w for t in texts for w in t.windows])))
        gold = torch.tensor([TAGS.index(tag) for own in tags for tag in own], device=logits.device)
        losses = cross_entropy(logits, gold, reduction="none")
        owner = torch.tensor([i for i, own in enumerate(tags) for _ in own], device=logits.device)
        largest = losses.new_zeros(len(texts)).scatter_reduce(0, owner, losses, "amax")
        return losses.mean() + worst * largest.mean()

    def find(self, texts: Sequence[Text]) -> list[Text]:
        """Return the texts with the spans found: complete ones on the best path without a forbidden transition."""
        with torch.inference_mode():
            scores = {i: self.head(v).log_softmax(-1) for i, v in self._states.vectors([t.windows for t in texts])}
        emissions = [scores[i].double().cpu().numpy() for i in range(len(texts))]
        paths = viterbi(emissions, *bioes())
        spans = (tags_to_entities([TAGS[number] for number in path], "bioes") for path in paths)
        return [replace(seen, gold=found) for seen, found in zip(texts, spans, strict=True)]


@dataclass(frozen=True, slots=True)
class Table:
    """The prototypes of some types."""

    means: torch.Tensor
    """(types, size)."""
    present: torch.Tensor
    """(types) says which have one; the others' rows are zeros."""


def tabulate(vectors: torch.Tensor, labels: torch.Tensor, types: int) -> Table:
    """Return the mean of the vectors (n, size) of each type."""
    means, counts = prototypes(vectors, labels, types)
    return Table(means, counts > 0)


class SpanTyper(Part):
    """Encoder + layer norm over the mean of a span's pieces, and prototypes.

    Args:
        encoder: shared with what comes after it.
        kappa: scale of the scores, see ``scores``.
        flow: let the gradient of the losses flow through the prototypes.
        stale: parity with the release: ask the query of the prototypes from before the last step on the support.
    """

    key = "types"

    def __init__(self, encoder: Encoder, kappa: float, *, flow: bool = False, stale: bool = False) -> None:
        super().__init__(encoder)
        self.norm = torch.nn.LayerNorm(encoder.size).to(encoder.device)
        self._kappa, self._flow, self._stale = kappa, flow, stale
        self._last: Table | None = None

    def vectors(self, texts: Sequence[Text]) -> torch.Tensor:
        """Return the vectors (n, size) of all spans, text after text; texts without one are not read."""
        texts = [t for t in texts if t.gold]
        if not texts:
            return self.norm.weight.new_zeros(0, self._states.size)
        states, pieces = self._states.piece_states([w for t in texts for w in t.windows])
        passed = accumulate((len(t.words) for t in texts), initial=0)
        rows = [
            range(pieces[at + span.start][0], pieces[at + span.end - 1][1])
            for at, t in zip(passed, texts, strict=False)
            for span in t.gold
        ]
        owner = torch.tensor([i for i, own in enumerate(rows) for _ in own], device=states.device)
        picked = states[torch.tensor([row for own in rows for row in own], device=states.device)]
        sums = states.new_zeros(len(rows), states.shape[1]).index_add(0, owner, picked)
        found: torch.Tensor = self.norm(sums / torch.tensor([len(own) for own in rows], device=states.device)[:, None])
        return found

    def scores(self, vectors: torch.Tensor, table: Table) -> torch.Tensor:
        """Return kappa * (span . prototype) / size of vectors (n, size) by type (n, types); -inf without a prototype.

        The release divides by the number 768, the size of its encoder.
        """
        found = self._kappa * vectors @ table.means.T / vectors.shape[1]
        return found.masked_fill(~table.present, -torch.inf)

    def support_loss(self, task: Lesson) -> torch.Tensor:
        """Return the mean cross-entropy of the support's mentions by the prototypes that they give themselves."""
        vectors, labels = self.vectors(task.support), self._labels(task.support, task.types)
        table = tabulate(vectors if self._flow else vectors.detach(), labels, len(task.types))
        self._last = Table(table.means.detach(), table.present)
        return self._loss(vectors, labels, table)

    def query_loss(self, task: Lesson) -> torch.Tensor:
        """Return the mean cross-entropy of the query's mentions whose type has a prototype."""
        table = self.table(task)
        return self._loss(self.vectors(task.query), self._labels(task.query, task.types), table)

    def _labels(self, texts: Sequence[Text], types: Sequence[str]) -> torch.Tensor:
        labels = [types.index(span.type) for t in texts for span in t.gold]
        return torch.tensor(labels, dtype=torch.long, device=self._states.device)

    def _loss(self, vectors: torch.Tensor, labels: torch.Tensor, table: Table) -> torch.Tensor:
        total, count = answerable_loss(self.scores(vectors, table), labels)
        return (total if count else self.norm.weight.sum() * 0) / max(count, 1)

    def table(self, task: Lesson) -> Table:
        """Return the prototypes of the support by the weights as they are; with ``stale``, those of the last step."""
        last, self._last = self._last, None
        if self._stale and last is not None:
            return last
        if self._flow and torch.is_grad_enabled():
            vectors = self.vectors(task.support)
        else:
            vectors = torch.cat(list(self._at_rest(task.support)))
        return tabulate(vectors, self._labels(task.support, task.types), len(task.types))

    def _at_rest(self, texts: Sequence[Text]) -> Iterator[torch.Tensor]:
        """Yield the vectors of the spans of some texts after another, without gradient."""
        for start in range(0, len(texts), LAYOUT_BATCH):
            with torch.no_grad():
                vectors = self.vectors(texts[start : start + LAYOUT_BATCH])
            yield vectors  # outside of the block, which would else hold for who asks

    def name(self, texts: Sequence[Text], table: Table, threshold: float | None) -> Iterator[list[int | None]]:
        """Yield the index of the best type of each span of each text; None for a score of ``threshold`` or less."""
        least = -math.inf if threshold is None else threshold
        best = [self.scores(vectors, table).max(-1) for vectors in self._at_rest(texts)]
        picked = ((s, k) for b in best for s, k in zip(b.values.tolist(), b.indices.tolist(), strict=True))
        for one in texts:
            yield [kind if score > least else None for score, kind in islice(picked, len(one.gold))]
