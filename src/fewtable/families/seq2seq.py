"""seq2seq: an encoder-decoder (T5, BART), all weights trained, that writes the answer (InstructionNER; methods/01)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from fewtable.corpus import Sentence
from fewtable.decoding.generate import Generation, generate, layout
from fewtable.errors import ConfigError
from fewtable.families._text import TextSession, cut
from fewtable.families.base import Fit, Job
from fewtable.formats.base import Example, Format
from fewtable.training.loop import LoopOptions

if TYPE_CHECKING:
    from fewtable.training.sft import Loss, Pair

BACKBONES = frozenset({"seq2seq"})
OUTPUT = "text"


class Train(LoopOptions):
    """Hyper-parameters of full fine-tuning. Weights are fp32; dtype bfloat16 means autocast over them."""

    source_length: Annotated[int, Field(ge=16)] = 512
    """Most tokens the encoder reads, the end token among them; longer prompts lose their end."""
    target_length: Annotated[int, Field(ge=2)] = 256


class Decode(Generation):
    """How answers are generated."""


class _Session(TextSession):
    def __init__(self, job: Job, options: Train, decode: Decode) -> None:
        super().__init__(job, options, decode)
        self._lengths = options.source_length, options.target_length

    def rows(self, examples: Sequence[Example]) -> Sequence[Pair]:
        from fewtable.training.sft import Pair

        return [Pair(self.prompt(example), self.answer(example)) for example in examples]

    def prompt(self, example: Example) -> tuple[int, ...]:
        if example.before:
            raise ConfigError(
                f"family '{self.spec.family}' holds no conversations, and the format does",
                where=f"{self.spec.method}:family",
                fix="set it to causal",
            )
        return self._ended(self.tokenizer(example.prompt)["input_ids"], self._lengths[0])

    def answer(self, example: Example) -> tuple[int, ...]:
        """Return the ids of what the model writes, its end token last."""
        return self._ended(self.tokenizer(text_target=example.target)["input_ids"], self._lengths[1])

    def answers(
        self, model: Any, groups: Sequence[Sequence[tuple[int, ...]]], form: Format, sentences: Sequence[Sentence]
    ) -> Sequence[Sequence[str]]:
        flat = [prompt for group in groups for prompt in group]
        written = iter(generate(model, self.tokenizer, flat, self._generation, (self.tokenizer.eos_token_id,)))
        return [[next(written) for _ in group] for group in groups]

    def _ended(self, ids: Sequence[int], limit: int) -> tuple[int, ...]:
        end = self.tokenizer.eos_token_id
        return (*cut([i for i in ids if i != end], limit - 1, keep_end=False), end)

    @contextmanager
    def start(self, fit: Fit) -> Iterator[Any]:
        from fewtable.training.labels import read_labels

        yield self._grown(self._load(fit.init or self.folder, "float32"), read_labels(fit.init), fit.seed)

    def loss(self, model: Any) -> Loss[Pair]:
        from fewtable.training.sft import seq2seq_loss

        return seq2seq_loss(model, self.tokenizer.pad_token_id, autocast=self.spec.dtype == "bfloat16")

    def split(self, rows: Sequence[Pair]) -> Sequence[Sequence[Pair]]:
        return [[rows[i] for i in part] for part in layout([len(row.prompt) for row in rows], self._device_batch)]

    def save(self, model: Any, folder: Path) -> None:
        from fewtable.training.weights import save_model

        save_model(model, folder)

    @contextmanager
    def trained(self, folder: Path) -> Iterator[Any]:
        yield self._load(folder, self.spec.dtype)

    def _load(self, folder: Path, dtype: str) -> Any:
        from transformers import AutoModelForSeq2SeqLM

        from fewtable.training.weights import load_model

        model = load_model(AutoModelForSeq2SeqLM, folder, dtype, self.device)
        # BART's answers begin with <s>, in training too; transformers no longer keeps this in the model's config.
        first = self.tokenizer(text_target="")["input_ids"][0]
        model.generation_config.forced_bos_token_id = first if first == self.tokenizer.bos_token_id else None
        return model


def load(job: Job) -> _Session:
    """Load the tokenizer; the weights come fresh from disk for every draw."""
    decode = Decode.model_validate(job.spec.decoding or {})
    return _Session(job, Train.model_validate(job.spec.train), decode)
