"""pointer: BART writes source positions and types; all weights (BARTNER; methods/06) or prompts (LightNER; 07)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from fewtable.corpus import EntityType, Task
from fewtable.decoding.pointer import greedy
from fewtable.families.base import Fit, Job, no_support
from fewtable.predictions import entity_types
from fewtable.specs import Spec
from fewtable.training.loop import Loop, LoopOptions, train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fewtable.training.encoder import Encoder
    from fewtable.training.pointer import PointerModel

BACKBONES = frozenset({"seq2seq"})
OUTPUT = "pointers"


class PromptOptions(Spec):
    """Shape of the prefix prompts."""

    length: Annotated[int, Field(ge=1)] = 10
    """Keys and values that each attention gets."""
    width: Annotated[int, Field(ge=1)] = 800
    """Hidden units of the networks that make them."""


class Train(LoopOptions):
    """Hyper-parameters of the training."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """On decoder states, label vectors and source embeddings, and in the MLP."""
    window: Annotated[int, Field(ge=8)] = 512
    """Most pieces of a forward; longer sentences are cut at word borders."""
    prompts: PromptOptions | None = None
    """LightNER: only prompts and the verbaliser are trained. None: BARTNER, all weights are."""


class Decode(Spec):
    """Decoding is greedy; the most tokens are ``length`` + ``per_word`` x words."""

    batch_size: Annotated[int, Field(ge=1)] = 32
    """Windows a forward; part of the result, as rounding changes with it."""
    length: Annotated[int, Field(ge=0)] = 10
    per_word: Annotated[float, Field(ge=0)] = 1.6


class _Session:
    def __init__(self, job: Job, options: Train, decode: Decode, encoder: Encoder) -> None:
        self._spec = job.spec
        self._device_batch = job.device_batch
        self._options = options
        self._decode = decode
        self._encoder = encoder

    def fit(self, task: Task, fit: Fit) -> None:
        import torch

        self._weights(fit.init)
        torch.manual_seed(fit.seed)
        model = self._model([name for name in self._spec.types if name in set(task.types)])
        if fit.init is not None:
            model.take(fit.init, labels=False)
        rows = model.prepare(task.support)
        if not rows:
            raise no_support(task, "a pointer model learns from examples")
        loop = Loop(self._options, fit.seed, fit.log, fit.checkpoint, self._device_batch)
        train(model, rows, model.loss, loop)
        model.save(fit.model)

    def decode(self, task: Task, model: Path) -> Iterator[Any]:
        from fewtable.training.pointer import EOS, SOS, saved_types

        self._weights(model)
        trained = self._model(saved_types(model))
        trained.take(model, labels=True)
        trained.eval()
        windows = [trained.windows(sentence.words) for sentence in task.query]
        flat = [window for parts in windows for window in parts]
        options = self._decode
        limits = [min(options.length + int(options.per_word * len(w.words)), trained.longest) for w in flat]
        answers = iter(greedy(trained, flat, limits, options.batch_size, start=SOS, stop=EOS))
        for parts in windows:
            output: list[Any] = []
            for number, window in enumerate(parts):
                output += [None] * (number > 0) + trained.spell(window, next(answers))
            yield output

    def _weights(self, folder: Path | None) -> None:
        """Give BART the weights of a model folder where they are trained, and else its own."""
        self._encoder.start(folder if self._options.prompts is None else None)

    def _model(self, names: Sequence[str]) -> PointerModel:
        from fewtable.training.pointer import PointerModel

        known: dict[str, EntityType] = {t.name: t for t in entity_types(self._spec.types)}
        shape = self._options.prompts
        prompts = None if shape is None else (shape.length, shape.width)
        types = [known[name] for name in names]
        return PointerModel(self._encoder, types, self._spec.dtype, self._options.dropout, prompts)


def load(job: Job) -> _Session:
    """Load BART."""
    from fewtable.training.encoder import Encoder

    assert job.backbone is not None
    options = Train.model_validate(job.spec.train)
    decode = Decode.model_validate(job.spec.decoding or {})
    return _Session(job, options, decode, Encoder(job.backbone, job.spec.dtype, window=options.window))
