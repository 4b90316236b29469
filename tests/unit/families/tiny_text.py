"""Small random text models with a word-level tokenizer, and what a family needs to run them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from fewtable.corpus import EntityType
from fewtable.families.base import Fit, Job
from fewtable.families.causal import CUE
from fewtable.formats.instructionner import FORMAT, Options
from fewtable.specs import RunSpec

SPECIAL = ("<pad>", "</s>", "<unk>")


def tokenizer(sentences: Sequence[Any], types: dict[str, str], *, ended: bool) -> PreTrainedTokenizerFast:
    """A tokenizer whose vocabulary is that of the sentences' prompts and answers."""
    form = FORMAT([EntityType(n, w, "") for n, w in types.items()], Options())
    examples = [e for s in sentences for e in form.render(s)]
    words = {w for e in examples for w in (e.prompt + CUE + " " + e.target).split()}
    vocabulary = {w: i for i, w in enumerate([*SPECIAL, *sorted(words)])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if ended:
        inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )  # fmt: skip


def build(folder: Path, kind: str, sentences: Sequence[Any], types: dict[str, str], size: int = 64) -> Path:
    """Write a model of two layers to ``folder``."""
    made = tokenizer(sentences, types, ended=kind == "seq2seq")
    torch.manual_seed(0)
    names = {"pad_token_id": 0, "eos_token_id": 1, "vocab_size": len(made)}
    if kind == "seq2seq":
        config = T5Config(
            d_model=size, d_ff=2 * size, d_kv=size // 4, num_layers=2, num_heads=4, dropout_rate=0.0,
            decoder_start_token_id=0, **names,
        )  # fmt: skip
        T5ForConditionalGeneration(config).save_pretrained(folder)
    else:
        config = LlamaConfig(
            hidden_size=size, intermediate_size=2 * size, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, tie_word_embeddings=True, bos_token_id=None, **names,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def job(folder: Path, family: str, types: dict[str, str], train: dict[str, Any], **decode: Any) -> Job:
    spec = RunSpec(
        dataset="toy", setting="5-shot", method="m", backbone="tiny", draws=(1,),
        types={n: {"words": w} for n, w in types.items()}, family=family,
        format={"name": "instructionner"}, train=train, dtype="float32",
        decoding={"max_new_tokens": 40, **decode}, code="",
    )  # fmt: skip
    return Job(spec=spec, backbone=folder, device_batch=train.get("batch_size", 4))


def fit(folder: Path, seed: int = 1, init: Path | None = None, log: Any = None) -> Fit:
    model = folder / "model"
    model.mkdir(parents=True)
    return Fit(model, folder / "checkpoint", init, seed, log or (lambda step, **values: None))
