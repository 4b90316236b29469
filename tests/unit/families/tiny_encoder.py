"""A small random BERT and a small random BART with a vocabulary of given words, and jobs over them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fewtable.corpus import Entity, EntityType, Sentence, Task
from fewtable.families.base import Fit, Job
from fewtable.formats import bio, io
from fewtable.specs import RunSpec


def build(folder: Path, words: Iterable[str], hidden: int = 64, layers: int = 2) -> Path:
    """Write the model; words outside the vocabulary are spelt letter by letter."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    pieces = dict.fromkeys([*special, *sorted({w.lower() for w in words}), *letters, *(f"##{c}" for c in letters)])
    model = models.WordPiece(vocab={piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=2 * hidden, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def build_bart(folder: Path, words: Iterable[str], size: int = 64) -> Path:
    """Write the model; words outside the vocabulary are unknown."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = dict.fromkeys([*special, *sorted(set(words))])
    tokenizer = Tokenizer(models.WordLevel(vocab={piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=len(pieces), d_model=size, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=2 * size, decoder_ffn_dim=2 * size, max_position_embeddings=64,
    )  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(folder)
    return folder


def job(
    backbone: Path, family: str, train: dict[str, Any], decode: dict[str, Any] | None = None, tags: str = "io"
) -> Job:
    spec = RunSpec(
        dataset="d", setting="s", method="m", backbone="b", draws=(1,), types={}, family=family,
        format={"name": tags}, train=train, decoding=decode, dtype="float32", code="",
    )  # fmt: skip
    return Job(spec, backbone, device_batch=16)


def fit(folder: Path, init: Path | None = None, log: Any = None) -> Fit:
    model = folder / "model"
    model.mkdir(parents=True, exist_ok=True)
    return Fit(model, folder / "checkpoint", init, seed=5, log=log or (lambda step, **values: None))


def micro_f1(task: Task, outputs: Iterable[Any], tags: str) -> float:
    module: Any = {"bio": bio, "io": io}[tags]
    reader = module.FORMAT([EntityType(t, t, t) for t in task.types], module.FORMAT.Options())
    right = found = gold = 0
    for sentence, output in zip(task.query, outputs, strict=True):
        predicted = set(reader.parse(sentence.words, output).entities)
        right += len(predicted & set(sentence.entities))
        found, gold = found + len(predicted), gold + len(sentence.entities)
    return 2 * right / (found + gold) if found + gold else 0.0


def sentence(number: int, text: str, *entities: tuple[int, int, str], split: str = "train") -> Sentence:
    return Sentence(f"{split}-{number:06d}", tuple(text.split()), tuple(Entity(*e) for e in entities))
