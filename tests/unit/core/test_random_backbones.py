"""The random backbones of config/: small, seeded, and with a tokenizer that spells any text."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fewtable.backbones import materialise
from fewtable.registry import Registry

REGISTRY = Registry(Path(__file__).resolve().parents[3] / "config")
RANDOM = [name for name in REGISTRY.names("backbones") if REGISTRY.backbone(name).random]


def test_there_is_one_of_each_kind() -> None:
    assert {REGISTRY.backbone(name).kind for name in RANDOM} == {"encoder", "causal", "seq2seq"}


@pytest.mark.parametrize("name", RANDOM)
def test_it_loads_and_is_the_same_in_every_process(name: str, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        materialise(name, REGISTRY.backbone(name), folder)
    assert len({hashlib.sha256((f / "model.safetensors").read_bytes()).hexdigest() for f in folders}) == 1
    tokenizer = AutoTokenizer.from_pretrained(folders[0])
    model = AutoModel.from_pretrained(folders[0])
    assert model.config.vocab_size == len(tokenizer)
    assert tokenizer.unk_token is None or tokenizer.unk_token_id not in tokenizer("near the Fenway!")["input_ids"]


def test_bart_starts_as_the_pretrained_one() -> None:
    """methods/03: the decoder reads </s> first, and <s> is the first label; 0, 1, 2 are <s>, <pad>, </s>."""
    from fewtable.random_tokenizers import byte_tokenizer

    ids = byte_tokenizer(start=True)("ab")["input_ids"]
    assert (ids[0], ids[-1], len(ids)) == (0, 2, 4)
