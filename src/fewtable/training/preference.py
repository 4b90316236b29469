"""Preference: an answer is made likelier than a worse one, against the model as it was (DPO, by TRL).

Followed: section 3.4 and equations 6 to 13 of the OBP-LLM paper, in the reading of its specification.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from fewtable.corpus import Entity, Sentence
from fewtable.errors import ConfigError
from fewtable.files import stable_seed
from fewtable.formats.base import Example, Format
from fewtable.specs import Spec
from fewtable.training.loop import Loop, adamw, rate, total_steps

if TYPE_CHECKING:
    from fewtable.training.sft import Row

REFERENCE = "ref"
"""TRL's name for the adapter as it was."""


class Preference(Spec):
    """What is preferred, and how much."""

    beta: Annotated[float, Field(gt=0)] = 0.1
    """Of DPO: multiplies the log ratios to the reference."""
    sft: Annotated[float, Field(ge=0)] = 0.2
    """Weight of the preferred answers' mean token cross-entropy, added to the loss."""
    shifts: Annotated[int, Field(ge=0)] = 2
    """Most wrong boundaries of an entity that are drawn."""


def shifts(entity: Entity, sentence: Sentence) -> list[tuple[int, int]]:
    """Return the spans one word off an entity: an end or both moved by one, inside or out.

    None that leaves the sentence, is empty or is another entity of the type.
    """
    start, end, kind = entity
    moves = [(-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, 1), (-1, 1)]
    spans = [(start + left, end + right) for left, right in moves]
    gold = {(e.start, e.end) for e in sentence.entities if e.type == kind}
    return [(low, high) for low, high in spans if 0 <= low < high <= len(sentence.words) and (low, high) not in gold]


def boundary_pairs(form: Format, sentence: Sentence, count: int, seed: int) -> Iterator[tuple[Example, Example]]:
    """Yield a sentence's queries as they should be answered and with one boundary wrong, all else being right.

    Args:
        form: of several queries a sentence.
        sentence: with gold entities.
        count: most pairs of an entity.
        seed: draws the boundaries; the draw's number, alike for all methods and backbones.
    """
    for entity in sentence.entities:
        spans = shifts(entity, sentence)
        random.Random(stable_seed("boundary", seed, sentence.id, *entity)).shuffle(spans)
        others = [e for e in sentence.entities if e != entity]
        left = count
        for span in spans:
            changed = replace(sentence, entities=tuple(sorted([*others, Entity(*span, entity.type)])))
            for right, wrong in zip(form.render(sentence), form.render(changed), strict=True):
                if left and right.target != wrong.target:  # "the the" moved by a word is the same string
                    left -= 1
                    yield right, wrong
            if not left:
                break


def error_pairs(form: Format, sentence: Sentence, answers: Sequence[str | None]) -> Iterator[tuple[Example, Example]]:
    """Yield the queries that a model answered wrongly, as they should be answered and as they were.

    An answer is wrong where, beside right answers to the other queries, it gives other entities than the right one.
    One that is None was not asked for.
    """
    asked = form.render(sentence)
    targets = [example.target for example in asked]
    gold = set(form.parse(sentence.words, targets).entities)
    for number, (example, answer) in enumerate(zip(asked, answers, strict=True)):
        if answer is None:
            continue
        given = [*targets[:number], answer, *targets[number + 1 :]]
        if set(form.parse(sentence.words, given).entities) != gold:
            yield example, replace(example, target=answer)


@dataclass(frozen=True, slots=True)
class Preferred:
    """Tokens of a prompt, of the answer that is preferred and of the one that is not, the end of each with it."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]


def preferred(right: Row, wrong: Row) -> Preferred:
    """Return two rows of one prompt as a pair: what is learned of them are the answers."""
    start = right.learned.index(True)
    assert right.ids[:start] == wrong.ids[:start] and all(right.learned[start:]) and all(wrong.learned[start:])
    return Preferred(right.ids[:start], right.ids[start:], wrong.ids[start:])


def prefer(model: Any, pairs: Sequence[Preferred], options: Preference, loop: Loop, tokenizer: Any) -> None:
    """Train a peft model's adapter by DPO; the reference is that adapter as it is now, a frozen copy beside it.

    The loss of a step is the mean over its pairs of -log sigmoid(beta * ((log p(chosen) - log p_ref(chosen)) -
    (log p(rejected) - log p_ref(rejected)))), log p summed over an answer's tokens, plus ``options.sft`` times the mean
    cross-entropy over the tokens of its chosen answers. There is no dropout.

    Args:
        model: with one trainable adapter; the weights below are neither changed nor left with anything on them.
        pairs: at least one.
        options: of the loss.
        loop: hyper-parameters, seed, log (``loss``, ``lr``, ``margin``: mean reward of chosen over rejected) and a
            folder. A batch is one forward whatever ``device_batch`` is, and nothing is resumed.
        tokenizer: tells TRL the end and the filler.

    Raises:
        ConfigError: TRL is not installed, or the loss is not finite.
    """
    trainer_class = _trainer()
    from datasets import Dataset
    from torch.optim.lr_scheduler import LambdaLR
    from transformers.trainer_callback import PrinterCallback
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    total = total_steps(loop.options, len(pairs))
    optimizer = adamw((p for p in model.parameters() if p.requires_grad), loop.options.weight_decay)
    for group in optimizer.param_groups:
        group["lr"] = loop.options.lr
    rates = LambdaLR(optimizer, lambda step: rate(loop.options, min(step, total - 1), total) / loop.options.lr)
    own = copy.deepcopy(tokenizer)  # TRL gives it a filler
    rows = [{"prompt_ids": p.prompt, "chosen_ids": p.chosen, "rejected_ids": p.rejected} for p in pairs]
    with _untouched(model):
        trainer = trainer_class(
            model=model,
            args=_arguments(loop, options, total, model.device.type),
            data_collator=DataCollatorForPreference(pad_token_id=own.pad_token_id or own.eos_token_id),
            train_dataset=Dataset.from_list(rows),
            processing_class=own,
            callbacks=[_telling(loop)],
            optimizers=(optimizer, rates),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    model.eval()


def _trainer() -> Any:
    try:
        from trl.trainer.dpo_trainer import DPOTrainer
    except ModuleNotFoundError:
        raise ConfigError(
            "the package 'trl' is not installed", where="family preference", fix="pip install 'fewtable[preference]'"
        ) from None

    class Trainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset  # these are tokens, the very ones of the fine-tuning

    return Trainer


def _arguments(loop: Loop, options: Preference, total: int, device: str) -> Any:
    from trl.trainer.dpo_config import DPOConfig

    made = DPOConfig(
        output_dir=str(loop.checkpoint),
        beta=options.beta,
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, options.sft],
        max_length=None,
        per_device_train_batch_size=loop.options.batch_size,
        max_steps=total,
        max_grad_norm=loop.options.clip or 0.0,
        seed=loop.seed % 2**32,
        bf16=False,
        gradient_checkpointing=False,  # TRL would leave hooks on the backbone; the family sees to it
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=device == "cpu",
    )
    if made.n_gpu > 1:
        made._n_gpu = 1  # a job has one, however many the machine has
    return made


def _telling(loop: Loop) -> Any:
    """Return what passes a step's numbers on to the log."""
    from transformers.trainer_callback import TrainerCallback

    class Telling(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
            if "loss" not in logs:
                return
            step, loss = state.global_step, logs["loss"]
            if not math.isfinite(loss):
                raise ConfigError(f"the loss is {loss} at step {step}", where="train", fix="lower train.lr")
            lr = rate(loop.options, step - 1, int(state.max_steps))
            loop.log(step, loss=loss, lr=lr, margin=logs["rewards/margins"])

    return Telling()


@contextmanager
def _untouched(model: Any) -> Iterator[None]:
    """Take away what TRL leaves: its copy of the adapter, its forward, and its settings of the backbone."""
    base = model.get_base_model()
    configs = (base.config, base.generation_config)
    names = ("pad_token_id", "bos_token_id", "eos_token_id")
    before = [[getattr(config, name) for name in names] for config in configs], base.config.use_cache
    try:
        yield
    finally:
        vars(base).pop("forward", None)
        tokens, base.config.use_cache = before
        for config, values in zip(configs, tokens, strict=True):
            for name, value in zip(names, values, strict=True):
                setattr(config, name, value)
        if REFERENCE in model.peft_config:
            model.delete_adapter(REFERENCE)
