"""causal: a decoder-only model that continues the prompt with the answer; LoRA adapters or all weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fewtable.decoding.generate import Generation
from fewtable.errors import ConfigError
from fewtable.families._text import TextSession, cut
from fewtable.families.base import Fit, Job
from fewtable.formats.base import Example
from fewtable.specs import Spec
from fewtable.training.loop import LoopOptions

if TYPE_CHECKING:
    from fewtable.training.sft import Loss

BACKBONES = frozenset({"causal"})
OUTPUT = "text"

CUE = "\nAnswer:"
"""What follows a plain prompt. The answer begins with a space, so that its first word is spelled as in the sentence."""


class Lora(Spec):
    """Low-rank adapters (peft); the weights below them stay as they are, in the spec's dtype."""

    r: Annotated[int, Field(ge=1)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Names of the linear layers that get an adapter."""


class Train(LoopOptions):
    """Hyper-parameters of the fine-tuning."""

    lora: Lora | None = Lora()
    """None trains all weights: fp32, with autocast where the dtype is bfloat16."""
    template: Literal["plain", "chat"] = "plain"
    """``chat`` wraps prompt and answer in the tokenizer's chat template."""
    prompt_length: Annotated[int, Field(ge=16)] = 1024
    """Most tokens of a prompt; longer ones lose their beginning."""


class Decode(Generation):
    """How answers are generated."""


class _Session(TextSession):
    def __init__(self, job: Job, options: Train, decode: Decode) -> None:
        super().__init__(job, options, decode)
        self._train = options
        self._base: Any = None
        if options.template == "chat" and not self.tokenizer.chat_template:
            raise ConfigError(
                f"the tokenizer of backbone '{job.spec.backbone}' has no chat template",
                where=f"{job.spec.method}:train.template",
                fix="set it to plain",
            )

    @property
    def stop(self) -> Sequence[int]:
        return (self.answer(Example("", ""))[-1],)

    def prompt(self, example: Example) -> tuple[int, ...]:
        if self._train.template == "chat":
            ids = self._ids(self._chat(example, answered=False))
        else:
            ids = self.tokenizer(example.prompt + CUE)["input_ids"]
            ids = ids[:-1] if ids[-1] == self.tokenizer.eos_token_id else ids
        return cut(ids, self._train.prompt_length, keep_end=True)

    def answer(self, example: Example) -> tuple[int, ...]:
        if self._train.template == "plain":
            return (*self._ids(" " + example.target), self.tokenizer.eos_token_id)
        before, whole = self._chat(example, answered=False), self._chat(example, answered=True)
        if not whole.startswith(before):
            raise ConfigError(
                "the chat template writes an answered turn otherwise than an open one",
                where=f"{self.spec.method}:train.template",
                fix="set it to plain",
            )
        # The template's newline after the end of a turn is never generated, so it is not learned.
        return tuple(self._ids(whole[len(before) :].rstrip()))

    def _chat(self, example: Example, *, answered: bool) -> str:
        turns = [{"role": "user", "content": example.prompt}]
        if answered:
            turns.append({"role": "assistant", "content": example.target})
        text: str = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=not answered)
        return text

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def start(self, fit: Fit) -> AbstractContextManager[Any]:
        lora = self._train.lora
        return self._start_full(fit) if lora is None else self._start_adapters(fit, lora)

    @contextmanager
    def _start_adapters(self, fit: Fit, lora: Lora) -> Iterator[Any]:
        from fewtable.training.weights import adapted

        base = self._backbone()
        with (
            self._widened(base, fit.seed, fit.init) as rows,
            adapted(base, lora.model_dump(), fit.seed, fit.init) as model,
        ):
            for row in rows:
                row.requires_grad_(True)  # adapters freeze all else
            yield model

    def _widened(self, base: Any, seed: int, init: Path | None) -> AbstractContextManager[Any]:
        from fewtable.training.labels import widened

        return widened(base, len(self._plain), len(self.labels), seed, init)

    @contextmanager
    def _start_full(self, fit: Fit) -> Iterator[Any]:
        from fewtable.training.labels import put_rows, read_labels, read_rows
        from fewtable.training.weights import has_adapter, merged

        known = read_labels(fit.init)
        if fit.init is not None and has_adapter(fit.init):
            with merged(self._load(self.folder, "float32"), fit.init) as model:
                self._grown(model, (), fit.seed)
                if known:
                    put_rows(model, len(self._plain), read_rows(fit.init))
                yield model
        else:
            yield self._grown(self._load(fit.init or self.folder, "float32"), known, fit.seed)

    def loss(self, model: Any) -> Loss:
        from fewtable.training.sft import causal_loss

        plain = model.get_base_model() if self._train.lora else model
        autocast = self._train.lora is None and self.spec.dtype == "bfloat16"
        return causal_loss(plain, self.tokenizer.eos_token_id, autocast=autocast)

    def save(self, model: Any, folder: Path) -> None:
        from fewtable.training.labels import save_rows
        from fewtable.training.weights import save_adapter, save_model

        if self._train.lora:
            save_adapter(model, folder, self.spec.backbone)
            if self.labels:
                save_rows(model.get_base_model(), folder)
        else:
            save_model(model, folder)

    @contextmanager
    def trained(self, folder: Path) -> Iterator[Any]:
        from fewtable.training.weights import has_adapter, merged

        if has_adapter(folder):
            base = self._backbone()
            with self._widened(base, 0, folder), merged(base, folder) as model:
                yield model
        else:
            yield self._load(folder, self.spec.dtype)

    def _backbone(self) -> Any:
        """Return the backbone, loaded once: adapters come and go, its own weights stay."""
        if self._base is None:
            self._base = self._load(self.folder, self.spec.dtype).requires_grad_(False)
        return self._base

    def _load(self, folder: Path, dtype: str) -> Any:
        from transformers import AutoModelForCausalLM

        from fewtable.training.weights import load_model

        return load_model(AutoModelForCausalLM, folder, dtype, self.device)


def load(job: Job) -> _Session:
    """Load the tokenizer; the weights are loaded when first used."""
    decode = Decode.model_validate(job.spec.decoding or {})
    return _Session(job, Train.model_validate(job.spec.train), decode)
