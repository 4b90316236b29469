"""Greedy answers by vLLM: paged caches, prefixes of questions shared by its prefix cache, an adapter over the backbone.

Batch-invariant kernels make an answer independent of the questions it is asked with, as the layout of a batch does for
our own loop. Needs CUDA and the package ``vllm``, which no lock file of this project pins.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewtable.errors import ConfigError

Ids = Sequence[int]


class VllmEngine:
    """A model in vLLM's engine.

    Args:
        folder: the model's weights in transformers' layout.
        dtype: ``float32`` or ``bfloat16``.
        adapter: folder of a LoRA adapter (peft) over the model.
        rank: the adapter's rank.

    Raises:
        ConfigError: vLLM is not installed.
    """

    def __init__(self, folder: Path, dtype: str, adapter: Path | None = None, rank: int = 16) -> None:
        os.environ.setdefault("VLLM_BATCH_INVARIANT", "1")  # read when vllm is imported
        try:
            from vllm import LLM
            from vllm.lora.request import LoRARequest
        except ImportError:
            raise ConfigError(
                "the package 'vllm' is not installed",
                where="config/backbones: engine",
                fix="install it on a machine with CUDA, or set engine: transformers",
            ) from None
        lora = {"enable_lora": True, "max_lora_rank": rank} if adapter else {}
        self._engine: Any = LLM(
            model=str(folder), dtype=dtype, seed=0, enable_prefix_caching=True, skip_tokenizer_init=True, **lora
        )
        self._adapter = LoRARequest("adapter", 1, str(adapter)) if adapter else None

    def answer(self, groups: Sequence[Sequence[Ids]], limit: int, stop: int) -> list[list[list[int]]]:
        """Return the answers to groups of prompts as token ids without the end token, as ``greedy.answer`` does."""
        from vllm import SamplingParams

        settings = SamplingParams(temperature=0.0, max_tokens=limit, stop_token_ids=[stop], detokenize=False)
        prompts = [{"prompt_token_ids": list(prompt)} for group in groups for prompt in group]
        found = self._engine.generate(prompts, settings, lora_request=self._adapter, use_tqdm=False) if prompts else []
        answers = iter([list(request.outputs[0].token_ids) for request in found])
        return [[_before(next(answers), stop) for _ in group] for group in groups]


def _before(ids: list[int], stop: int) -> list[int]:
    return ids[: ids.index(stop)] if stop in ids else ids
