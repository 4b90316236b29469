"""Answers held to a language: whole at any limit, copied from the sentence, whatever the model would rather say."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fewtable.corpus import Sentence
from fewtable.decoding.constrained import CopiedList, Paths, Vocabulary
from fewtable.decoding.greedy import answer
from fewtable.errors import ConfigError
from fewtable.random_tokenizers import byte_tokenizer

WORDS = st.lists(st.sampled_from(["a", "ab", "]", '"', "\\", "é", ",", "日"]), min_size=1, max_size=6)
GLUED = st.sets(st.integers(1, 5))


def sentence(words: list[str], glued: set[int]) -> Sentence:
    return Sentence("x-0", tuple(words), (), tuple(sorted(i for i in glued if i < len(words))))


def surfaces(made: Sentence) -> set[str]:
    size = len(made.words)
    return {made.surface(i, j) for i in range(size) for j in range(i + 1, size + 1)}


def fallback() -> Any:
    """A tokenizer like Llama-2's: a bar for a space, bytes as a last resort, and tokens across all borders."""
    letters = [chr(b) for b in range(0x21, 0x7F)] + ["\u2581"]
    more = ['["', '"]', '",', '\u2581"', "\u2581[", "ab", "a\u2581", "é", "\u2581[]", 'b"', "日"]
    texts = ["<unk>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *letters, *more]
    inner = Tokenizer(models.BPE({t: i for i, t in enumerate(texts)}, [], unk_token="<unk>", byte_fallback=True))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", unk_token="<unk>")


TOKENIZERS = {"bytes": byte_tokenizer(), "fallback": fallback()}
VOCABULARIES = {name: Vocabulary(made) for name, made in TOKENIZERS.items()}


@pytest.fixture(scope="module")
def tiny() -> dict[str, Any]:
    torch.manual_seed(5)
    return {
        name: LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(made), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                num_attention_heads=2, pad_token_id=0, eos_token_id=made.eos_token_id, bos_token_id=None,
                initializer_range=0.5,
            )
        ).eval()
        for name, made in TOKENIZERS.items()
    }  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(WORDS, GLUED, st.integers(4, 30), st.sampled_from(["", " "]), st.sampled_from(list(TOKENIZERS)), st.data())
def test_any_model_writes_a_whole_list_of_the_sentences_words(
    tiny: dict[str, Any], words: list[str], glued: set[int], limit: int, lead: str, name: str, data: Any
) -> None:
    made, tokenizer = sentence(words, glued), TOKENIZERS[name]
    prompts = [[data.draw(st.integers(5, 80)) for _ in range(3)] for _ in range(3)]
    stop = tokenizer.eos_token_id
    paths = Paths(VOCABULARIES[name], CopiedList(made.words, made.glued, lead), stop)
    allowed = [paths.constraint(limit) for _ in prompts]
    for ids in answer(tiny[name], [prompts], 2, limit, stop, (), [allowed].__getitem__)[0]:
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert len(ids) <= limit and text.startswith(f"{lead}[")
        assert set(json.loads(text)) <= surfaces(made)


@settings(max_examples=60, deadline=None)
@given(WORDS, GLUED, st.data())
def test_the_way_to_the_end_is_as_long_as_said_and_every_list_can_be_written(
    words: list[str], glued: set[int], data: Any
) -> None:
    made = sentence(words, glued)
    language: Any = CopiedList(made.words, made.glued, " ")
    chosen = data.draw(st.lists(st.sampled_from(sorted(surfaces(made))), max_size=3))
    state = language.start
    for byte in f" {json.dumps(chosen, ensure_ascii=False)}".encode():
        edge, steps = {state}, 0
        while all(language.shortest(one) for one in edge):
            edge, steps = {after for one in edge for after in language.following(one).values()}, steps + 1
        assert steps == language.shortest(state)
        state = language.following(state)[byte]
    assert language.shortest(state) == 0 and not language.following(state)


def test_tokens_across_borders_are_offered_and_no_others() -> None:
    tokenizer, made = TOKENIZERS["fallback"], Sentence("x-0", ("ab", "é"))
    paths = Paths(VOCABULARIES["fallback"], CopiedList(made.words, made.glued, " "), tokenizer.eos_token_id)
    allowed = paths.constraint(99)
    ids = tokenizer.get_vocab()

    def offered(*tokens: str) -> set[str]:
        return set(tokenizer.convert_ids_to_tokens(allowed([ids[t] for t in tokens]).tolist()))

    # Of the byte tokens those that the texts begin with: a space, b, c3 of é.
    assert offered() == {"\u2581", "\u2581[", "\u2581[]", "<0x20>"}
    assert offered("\u2581[") == {'"', "]", "<0x22>", "<0x5D>"}
    assert offered("\u2581[", '"') == {"a", "ab", "é", "<0x61>", "<0xC3>"}
    assert offered("\u2581[", '"', "a") == {"b", 'b"', "<0x62>"}
    assert offered("\u2581[", '"', "a", 'b"') == {"]", ",", "<0x5D>", "<0x2C>"}
    assert offered("\u2581[", '"', "a", 'b"', "]") == {"</s>"}


def test_a_tokenizer_that_cannot_spell_is_refused() -> None:
    inner = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    inner.decoder = decoders.Fuse()
    with pytest.raises(ConfigError, match="no token"):
        Vocabulary(PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>"))


def test_a_limit_below_the_shortest_answer_is_refused() -> None:
    paths = Paths(VOCABULARIES["bytes"], CopiedList(("a",), (), " "), 1)
    assert paths.constraint(3)([]).tolist() == [TOKENIZERS["bytes"].get_vocab()["Ġ"]]
    with pytest.raises(ConfigError, match="shortest answer"):
        paths.constraint(2)
