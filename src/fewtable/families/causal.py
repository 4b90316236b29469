"""causal: a decoder-only model that continues the prompt with the answer; LoRA adapters or all weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from fewtable.corpus import Sentence, Task
from fewtable.errors import ConfigError
from fewtable.families._dialogue import Answering, Dialogue
from fewtable.families._text import TextSession
from fewtable.families.base import Fit, Job, TrainLog
from fewtable.formats.base import Example, Format
from fewtable.formats.dialogue import Template
from fewtable.specs import Spec
from fewtable.training.contrast import Contrast
from fewtable.training.loop import LoopOptions
from fewtable.training.parallel import ranks, sharded

if TYPE_CHECKING:
    from fewtable.training.contrast import Contrasting
    from fewtable.training.sft import Loss, Row

BACKBONES = frozenset({"causal"})
OUTPUT = "text"
PARALLEL = True


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
    template: Template = "plain"
    """The words around questions and answers."""
    prompt_length: Annotated[int, Field(ge=16)] = 1024
    """Most tokens of a prompt; longer ones lose their beginning. A conversation is split between its turns."""
    contrast: Contrast | None = None
    """A second loss, on one layer's states of a type's name and its entities; for formats that mark them."""
    noise: Annotated[float, Field(ge=0)] = 0.0
    """Scale of the noise on embeddings in training (NEFTune's alpha)."""


class Decode(Answering):
    """How answers are generated."""


class _Session(TextSession):
    def __init__(self, job: Job, options: Train, decode: Decode) -> None:
        super().__init__(job, options, decode)
        self._train = options
        self._decode = decode
        self._base: Any = None
        self._contrasting: Contrasting | None = None
        Dialogue(self.tokenizer, options.template, options.prompt_length)  # what is wrong is said before weights load

    @property
    def _dialogue(self) -> Dialogue:
        return Dialogue(self.tokenizer, self._train.template, self._train.prompt_length)

    def rows(self, examples: Sequence[Example]) -> Sequence[Row]:
        if self._train.contrast and examples and all(example.marks is None for example in examples):
            raise ConfigError(
                f"format '{self.spec.format['name']}' does not say where types and entities stand",
                where="train.contrast",
                fix="set it to null, or take format brackets",
            )
        return self._dialogue.rows(examples)

    def prompt(self, example: Example) -> tuple[int, ...]:
        return self._dialogue.prompt(example)

    def answers(
        self, model: Any, groups: Sequence[Sequence[tuple[int, ...]]], form: Format, sentences: Sequence[Sentence]
    ) -> Sequence[Sequence[str]]:
        return self._dialogue.answers(model, groups, form, self._decode, sentences)

    @contextmanager
    def start(self, fit: Fit) -> Iterator[Any]:
        from fewtable.training.packing import apart

        lora = self._train.lora
        own = self._start_full(fit) if lora is None else self._start_adapters(fit, lora)
        with own as model, apart(self._inner(model)):
            yield model if lora else sharded(model)

    @property
    def together(self) -> int:
        """How many draws are best trained at once: where each has an adapter of its own, as many as fill a forward.

        On a CPU one: its time goes to the arithmetic, which several do not share (docs/decisions/training.md).
        """
        alone = self._train.lora is None or self._train.noise or ranks() > 1 or self.device.type == "cpu"
        alone = alone or self._gradient_checkpointing  # a second forward would draw another dropout
        return 1 if alone else max(1, self._device_batch // self._train.batch_size)

    def fit_together(self, tasks: Sequence[Task], fits: Sequence[Fit]) -> None:
        """Train on several supports in forwards that they share; see ``fit``."""
        from fewtable.training.labels import read_labels
        from fewtable.training.packing import apart
        from fewtable.training.together import Part, adapter_name, several, train_together
        from fewtable.training.weights import save_adapter

        forms = [self._format(task) for task in tasks]
        labels = any(form.tokens for form in forms) or any(read_labels(fit.init) for fit in fits)
        if self._train.lora is None or labels:  # label tokens are rows of the model itself
            for task, fit in zip(tasks, fits, strict=True):
                self.fit(task, fit)
            return
        rows = [self.learned(form, task) for form, task in zip(forms, tasks, strict=True)]
        starts = [(fit.seed, fit.init) for fit in fits]
        with several(self._backbone(), self._train.lora.model_dump(), starts) as model, apart(self._inner(model)):
            parts = [
                Part(own, self._loop(fit, number)) for number, (own, fit) in enumerate(zip(rows, fits, strict=True))
            ]
            with self._checkpointed(model):
                train_together(model, parts, self.loss(model), self.split)
            for number, fit in enumerate(fits):
                save_adapter(model, fit.model, self.spec.backbone, adapter_name(number))

    def _inner(self, model: Any) -> Any:
        """Return the transformers model below the adapters."""
        return model.get_base_model() if self._train.lora else model

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
            model = merged(self._load(self.folder, "float32"), fit.init)
            self._grown(model, (), fit.seed)
            if known:
                put_rows(model, len(self._plain), read_rows(fit.init))
            yield model
        else:
            yield self._grown(self._load(fit.init or self.folder, "float32"), known, fit.seed)

    def loss(self, model: Any) -> Loss[Row]:
        from fewtable.training.contrast import Contrasting
        from fewtable.training.noise import noisy
        from fewtable.training.sft import causal_loss

        inner = self._inner(model)
        autocast = self._train.lora is None and self.spec.dtype == "bfloat16"
        loss = causal_loss(inner, autocast=autocast)
        if self._train.noise:
            loss = noisy(loss, inner, self._train.noise)
        if self._train.contrast is None:
            return loss
        self._contrasting = Contrasting(inner, self._train.contrast)
        return self._contrasting.added(loss)

    def heard(self, log: TrainLog, part: int = 0) -> TrainLog:
        def told(step: int, **values: float) -> None:
            assert self._contrasting is not None
            log(step, **values, contrast=self._contrasting.value(part))

        return told if self._train.contrast else log

    def split(self, rows: Sequence[Row]) -> Sequence[Sequence[Row]]:
        from fewtable.training.contrast import shared
        from fewtable.training.packing import packs

        if self._train.contrast:
            rows = shared(rows, self._train.contrast)
        return packs(rows, self._device_batch, ranks())

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
        from fewtable.training.weights import has_adapter, wearing

        if self.spec.engine == "vllm":
            yield self._served(folder)
        elif has_adapter(folder):
            base = self._backbone()
            with self._widened(base, 0, folder), wearing(base, folder) as model:
                yield model
        else:
            yield self._load(folder, self.spec.dtype)

    def _served(self, folder: Path) -> Any:
        from fewtable.decoding.vllm import VllmEngine
        from fewtable.training.weights import has_adapter

        if self.labels:
            raise ConfigError(
                "vLLM takes no adapter with label tokens of its own",
                where=f"config/backbones/{self.spec.backbone}.yaml:engine",
                fix="set it to transformers for methods with labels: tokens",
            )
        if self._train.lora and has_adapter(folder):
            return VllmEngine(self.folder, self.spec.dtype, folder, self._train.lora.r)
        return VllmEngine(folder, self.spec.dtype)

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
