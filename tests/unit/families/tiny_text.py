"""Small random text models with a word-level tokenizer, and what a family needs to run them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from fewtable.corpus import EntityType, Task
from fewtable.families.base import Fit, Job
from fewtable.formats.dialogue import Template, text
from fewtable.predictions import make_format
from fewtable.specs import RunSpec
from fewtable.training.sft import Row

SPECIAL = ("<pad>", "</s>", "<unk>")


def tokenizer(
    sentences: Sequence[Any], types: dict[str, str], *, ended: bool, form: dict[str, Any] | None = None
) -> PreTrainedTokenizerFast:
    """A tokenizer whose vocabulary is that of the sentences' prompts and answers, added tokens left out."""
    made = make_format({"name": "instructionner", **(form or {})}, [EntityType(n, w, "") for n, w in types.items()])
    template: Template = "ie-as-qa" if made.several else "plain"
    asked = [e for s in sentences for e in made.render(s)] if made.several else []
    texts = [text(e, template, " ") for e in [*asked, *made.examples(sentences, 1)]]
    for token in made.tokens:
        texts = [written.replace(token, " ") for written in texts]
    words = {w for written in texts for w in written.split()}
    vocabulary = {w: i for i, w in enumerate([*SPECIAL, *sorted(words)])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if ended:
        inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )  # fmt: skip


def build(
    folder: Path,
    kind: str,
    sentences: Sequence[Any],
    types: dict[str, str],
    size: int = 64,
    form: dict[str, Any] | None = None,
    *,
    tied: bool = True,
) -> Path:
    """Write a model of two layers to ``folder``."""
    made = tokenizer(sentences, types, ended=kind == "seq2seq", form=form)
    torch.manual_seed(0)
    names = {"pad_token_id": 0, "eos_token_id": 1, "vocab_size": len(made)}
    if kind == "seq2seq":
        config = T5Config(
            d_model=size, d_ff=2 * size, d_kv=size // 4, num_layers=2, num_heads=4, dropout_rate=0.0,
            decoder_start_token_id=0, tie_word_embeddings=tied, **names,
        )  # fmt: skip
        model = T5ForConditionalGeneration(config)
        if not tied:  # transformers ties a T5 that is made here, whatever its config says
            model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
            model.config.tie_word_embeddings = False
        model.save_pretrained(folder)
    else:
        config = LlamaConfig(
            hidden_size=size, intermediate_size=2 * size, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, tie_word_embeddings=tied, bos_token_id=None, **names,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def job(
    folder: Path,
    family: str,
    types: dict[str, str],
    train: dict[str, Any],
    form: dict[str, Any] | None = None,
    **decode: Any,
) -> Job:
    spec = RunSpec(
        dataset="toy", setting="5-shot", method="m", backbone="tiny", draws=(1,),
        types={n: {"words": w} for n, w in types.items()}, family=family,
        format={"name": "instructionner", **(form or {})}, train=train, dtype="float32",
        decoding={"max_new_tokens": 40, **decode}, code="",
    )  # fmt: skip
    return Job(spec=spec, backbone=folder, device_batch=train.get("batch_size", 4))


def row(prompt: tuple[int, ...], answer: tuple[int, ...]) -> Row:
    """A row whose answer is learned."""
    return Row(prompt + answer, (False,) * len(prompt) + (True,) * len(answer))


def rows(session: Any, task: Task) -> Any:
    """What a text session trains on."""
    return session.rows(session._format(task).examples(task.support, task.draw))


def fit(folder: Path, seed: int = 1, init: Path | None = None, log: Any = None) -> Fit:
    model = folder / "model"
    model.mkdir(parents=True)
    return Fit(model, folder / "checkpoint", init, seed, log or (lambda step, **values: None))
