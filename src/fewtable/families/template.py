"""template: BART scores statements about every span, the best one of each stands (Cui et al. 2021; methods/05).

The source and the statements are spelled word by word, each word after a space, so that a word has the same pieces
wherever it stands.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from fewtable.corpus import Task
from fewtable.decoding.generate import layout
from fewtable.decoding.template import Candidate, Options, Search, Tails, Text, resolve
from fewtable.families.base import Fit, Job, no_support
from fewtable.formats.template import END, Template
from fewtable.predictions import entity_types, make_format
from fewtable.training.loop import Loop, LoopOptions, train
from fewtable.training.template import labelled_spans, spans

if TYPE_CHECKING:
    from fewtable.training.sft import Pair

log = logging.getLogger(__name__)

BACKBONES = frozenset({"seq2seq"})
OUTPUT = "spans"


class Train(LoopOptions):
    """Hyper-parameters of the fine-tuning; ``batch_size`` counts statements."""

    negatives: Annotated[float, Field(ge=0)] = 1.5
    """Spans that are no entity, an entity of the support."""
    longest: Annotated[int, Field(ge=1)] = 8
    """Most words of a candidate span."""
    source_length: Annotated[int, Field(ge=4)] = 128
    """Most tokens the encoder reads; longer sentences lose their end."""
    target_length: Annotated[int, Field(ge=8)] = 64
    """Most tokens of a statement; spans with longer ones are neither learned nor candidates."""


class Decode(Options):
    """How statements become entities."""


class _Session:
    def __init__(self, job: Job, options: Train, decode: Decode) -> None:
        from transformers import AutoConfig, AutoTokenizer
        from transformers.utils import logging as progress

        from fewtable.decoding.shared_prefix import check
        from fewtable.training.device import pick_device

        assert job.backbone is not None
        check(AutoConfig.from_pretrained(job.backbone))
        progress.disable_progress_bar()
        self._folder = job.backbone
        self._spec = job.spec
        self._device_batch = job.device_batch
        self._options = options
        self._decode = decode
        self._device = pick_device()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(job.backbone, use_fast=True)

    def fit(self, task: Task, fit: Fit) -> None:
        from fewtable.training.sft import seq2seq_loss
        from fewtable.training.weights import save_model

        rows = self.rows(task, fit.seed)
        if not rows:
            raise no_support(task, "statements are learned from sentences")
        model = self.model(fit.init or self._folder, "float32")
        loop = Loop(self._options, fit.seed, fit.log, fit.checkpoint, self._device_batch)
        autocast = self._spec.dtype == "bfloat16"
        train(model, rows, seq2seq_loss(model, self._tokenizer.pad_token_id, autocast=autocast), loop)
        save_model(model, fit.model)

    def rows(self, task: Task, seed: int) -> list[Pair]:
        """Return what is learned: the statements of all entities and of some spans that are none."""
        from fewtable.training.sft import Pair

        form = self._format(task)
        drawn = labelled_spans(task.support, self._options.longest, self._options.negatives, seed)
        rows = []
        for sentence, found in zip(task.support, drawn, strict=True):
            source = self.source(self._pieces(sentence.words))
            for start, end, kind in found:
                target = self._ended(self._pieces((*sentence.words[start:end], *form.tail(kind))))
                if len(target) <= self._options.target_length:
                    rows.append(Pair(source, target))
                else:
                    log.warning("a statement of %d tokens is left out", len(target))
        return rows

    def decode(self, task: Task, model: Path) -> Iterator[Any]:
        """Find the entities; they are yielded when all are there, since batches go by length."""
        trained = self.model(model, self._spec.dtype)
        names, tails = self.tails(task)
        pieces = [self._pieces(sentence.words) for sentence in task.query]
        found: list[list[Any]] = [[] for _ in pieces]
        for batch in layout([sum(map(len, words)) for words in pieces], self._decode.batch_size):
            texts = [self.text(pieces[i], tails) for i in batch]
            sources = [self.source(pieces[i]) for i in batch]
            for index, candidates in zip(batch, self.best(trained, sources, texts, tails), strict=True):
                kept = resolve(candidates, self._decode.per_start)
                found[index] = [[c.start, c.end, names[c.statement - 1]] for c in kept]
        yield from found

    def best(
        self, model: Any, sources: Sequence[Sequence[int]], texts: Sequence[Text], tails: Tails
    ) -> Iterator[list[Candidate]]:
        """Yield for each sentence the best statement of every span that one can win on."""
        import torch

        from fewtable.decoding.shared_prefix import SharedPrefix

        head = model.config.decoder_start_token_id, self._tokenizer.bos_token_id
        search = Search(texts, tails, head, self._decode.per_start)
        with torch.inference_mode():
            scores = search.run(SharedPrefix(model, sources, search.capacity).extend)
        rows = zip(scores.argmax(1).tolist(), scores.max(1).tolist(), strict=True)
        for text in texts:
            made = [Candidate(start, end, *next(rows)) for start, end in text.spans]
            yield [candidate for candidate in made if candidate.score > float("-inf")]

    def tails(self, task: Task) -> tuple[list[str], Tails]:
        """Return the types, and the tails of no entity and of each type."""
        form = self._format(task)
        names = [name for name in self._spec.types if name in set(task.types)]
        tails = [form.tail(kind) for kind in (None, *names)]
        if self._decode.code_cut:
            return names, Tails([self._flat(tail[: -len(END)]) for tail in tails])
        return names, Tails([[*self._flat(tail), self._tokenizer.eos_token_id] for tail in tails])

    def text(self, words: Sequence[Sequence[int]], tails: Tails) -> Text:
        """Return a sentence's candidate spans: those whose statements are short enough."""
        room = self._options.target_length - 1 - tails.longest
        fitting = [(i, j) for i, j in spans(len(words), self._options.longest) if sum(map(len, words[i:j])) <= room]
        return Text(words, fitting)

    def source(self, words: Sequence[Sequence[int]]) -> tuple[int, ...]:
        """Return what the encoder reads of a sentence."""
        tokens = [piece for word in words for piece in word][: self._options.source_length - 2]
        return self._ended([tokens])

    def _format(self, task: Task) -> Template:
        types = set(task.types)
        form = make_format(self._spec.format, [t for t in entity_types(self._spec.types) if t.name in types])
        assert isinstance(form, Template)
        return form

    def _pieces(self, words: Sequence[str]) -> list[list[int]]:
        if not words:
            return []
        found: list[list[int]] = self._tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"]
        return found

    def _flat(self, words: Sequence[str]) -> list[int]:
        return [piece for word in self._pieces(words) for piece in word]

    def _ended(self, words: Sequence[Sequence[int]]) -> tuple[int, ...]:
        inner = (piece for word in words for piece in word)
        return (self._tokenizer.bos_token_id, *inner, self._tokenizer.eos_token_id)

    def model(self, folder: Path, dtype: str) -> Any:
        """Return BART with the weights of ``folder``."""
        from transformers import AutoModelForSeq2SeqLM

        from fewtable.training.weights import load_model

        return load_model(AutoModelForSeq2SeqLM, folder, dtype, self._device)


def load(job: Job) -> _Session:
    """Load the tokenizer; the weights come fresh from disk for every draw."""
    decode = Decode.model_validate(job.spec.decoding or {})
    return _Session(job, Train.model_validate(job.spec.train), decode)
