"""Generation in batches of a fixed layout: sorted by length, greedy or beam, answers in the order of the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from fewtable.specs import Spec

if TYPE_CHECKING:
    import torch


class Generation(Spec):
    """How a text model answers."""

    batch_size: Annotated[int, Field(ge=1)] = 16
    """Prompts a forward. No knob: bf16 answers change with the batch, so the layout is part of the result."""
    beams: Annotated[int, Field(ge=1)] = 1
    max_new_tokens: Annotated[int, Field(ge=1)] = 256
    length_penalty: float = 1.0
    """Exponent of the length that divides a beam's score."""


def layout(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Return indices in batches of ``size``, longest first: little padding, and memory runs out at once or never."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[start : start + size] for start in range(0, len(order), size)]


def pad(rows: Sequence[Sequence[int]], value: int, *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask (rows, longest)."""
    import torch

    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), value)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(len(row))
        ids[number, place] = torch.tensor(row, dtype=torch.long)
        mask[number, place] = 1
    return ids, mask


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    options: Generation,
    stop: Sequence[int],
    offered: Sequence[Sequence[int]] | None = None,
) -> list[str]:
    """Return the model's answers, special tokens left out and all else untouched.

    Args:
        model: a transformers model that generates, decoder-only or encoder-decoder. What ``options`` don't say is
            as its own generation config has it.
        tokenizer: the model's.
        prompts: token ids, one list a prompt.
        options: layout and search.
        stop: ids of the tokens that end an answer.
        offered: for each prompt the only tokens that its answer may have, ``stop`` among them.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    whole = bool(model.config.is_encoder_decoder)
    filler = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stop[0]
    settings = GenerationConfig(
        max_new_tokens=options.max_new_tokens,
        num_beams=options.beams,
        length_penalty=options.length_penalty,
        do_sample=False,
        pad_token_id=filler,
        eos_token_id=list(stop),
    )
    answers = [""] * len(prompts)
    for batch in layout([len(p) for p in prompts], options.batch_size):
        ids, mask = pad([prompts[i] for i in batch], filler, left=not whole)
        held = LogitsProcessorList([_only([offered[i] for i in batch])] if offered else [])
        with torch.inference_mode():
            written = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                generation_config=settings,
                logits_processor=held,
            )
        new = written if whole else written[:, ids.shape[1] :]
        texts = tokenizer.batch_decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for index, text in zip(batch, texts, strict=True):
            answers[index] = text
    return answers


def _only(offered: Sequence[Sequence[int]]) -> Any:
    """Return a logits processor that lets each prompt of a batch, in all of its beams, have some tokens alone."""
    import torch

    kept: list[torch.Tensor] = []

    def process(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not kept:
            mask = scores.new_full((len(offered), scores.shape[1]), -torch.inf)
            for row, tokens in zip(mask, offered, strict=True):
                row[torch.tensor(tokens, device=mask.device)] = 0
            kept.append(mask.repeat_interleave(len(scores) // len(offered), 0))
        return scores + kept[0]

    return process
