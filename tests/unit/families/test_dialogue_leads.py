"""What every answer begins with, as tokens: never merged anew with what follows, learned or not; where marks stand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from fewtable.corpus import Entity, EntityType, Sentence
from fewtable.errors import ConfigError
from fewtable.families._dialogue import Dialogue
from fewtable.formats.base import Example, Marks
from fewtable.formats.brackets import FORMAT, Options
from fewtable.random_tokenizers import byte_tokenizer

FULL = 10_000
WORDS = st.lists(
    st.sampled_from(["thai", "food", "near", "a", "é", "日本", "🍜", "<<", ">>>", "<", "3", "'s"]),
    min_size=1,
    max_size=7,
)
GLUED = st.sets(st.integers(1, 6))
TEXTS = ["the entities I extracted for you are <<< thai >>> <<< food near >>>"] * 9


def merges() -> Any:
    """A trainer of a few merges over all bytes."""
    return trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def trained(*, cut: bool) -> Any:
    """A tokenizer that merges bytes, within words (``cut``) or across them."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut)
    inner.decoder = decoders.ByteLevel()
    inner.train_from_iterator(TEXTS, merges())
    inner.add_special_tokens(["<s>", "</s>"])
    start = inner.token_to_id("<s>")
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", start)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")


def bars() -> Any:
    """A tokenizer like Llama-2's: a bar for a space, one in front of all, merges, bytes as a last resort."""
    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.Metaspace()
    found.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=120))
    made = json.loads(found.to_str())["model"]
    texts = ["<unk>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *made["vocab"]]
    pairs = [tuple(pair) for pair in made["merges"]]
    inner = Tokenizer(models.BPE({t: i for i, t in enumerate(texts)}, pairs, unk_token="<unk>", byte_fallback=True))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", unk_token="<unk>")


TOKENIZERS = {
    "bytes": byte_tokenizer(),
    "bytes with a start": byte_tokenizer(start=True),
    "merges": trained(cut=True),
    "merges across words": trained(cut=False),
    "bars": bars(),
}
SMOLLM2 = Path(__file__).resolve().parents[3] / "results" / "backbones" / "smollm2-135m"
if (SMOLLM2 / "tokenizer.json").exists():
    TOKENIZERS["SmolLM2"] = PreTrainedTokenizerFast.from_pretrained(SMOLLM2)


def examples(words: list[str], glued: set[int], wording: str = "obp", *, skip: bool = False) -> list[Example]:
    size = len(words)
    gold = (Entity(0, 1, "t"), Entity(size // 2, size, "t"), Entity(0, size, "u"))
    sentence = Sentence("x-0", tuple(words), tuple(sorted(set(gold))), tuple(sorted(i for i in glued if i < size)))
    types = [EntityType("t", "thing", "What it is."), EntityType("u", "unit", ""), EntityType("v", "void", "")]
    return list(FORMAT(types, Options.model_validate({"wording": wording, "skip_lead": skip})).examples([sentence], 1))


@settings(max_examples=80, deadline=None)
@given(WORDS, GLUED, st.sampled_from(["obp", "cllmfs"]), st.booleans(), st.sampled_from(list(TOKENIZERS)))
def test_a_row_is_its_prompt_token_by_token_and_the_rest(
    words: list[str], glued: set[int], wording: str, skip: bool, name: str
) -> None:
    tokenizer = TOKENIZERS[name]
    dialogue = Dialogue(tokenizer, "bare", FULL)
    for example in examples(words, glued, wording, skip=skip):
        (row,), prompt = dialogue.rows([example]), dialogue.prompt(example)
        assert row.ids[: len(prompt)] == prompt and row.ids[-1] == dialogue.end
        text = tokenizer.decode(prompt, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert text.lstrip() == example.prompt + example.lead
        rest = tokenizer.decode(row.ids[len(prompt) : -1], clean_up_tokenization_spaces=False)
        assert rest.split() == example.target.removeprefix(example.lead).split()
        assert all(row.learned[len(prompt) :])
        learned = [i for i, yes in zip(prompt, row.learned, strict=False) if yes]
        lead = tokenizer.decode(learned, clean_up_tokenization_spaces=False)
        # A token across the newline before it is the question's.
        assert lead == "" if skip else example.lead.endswith(lead) and len(lead) > len(example.lead) - 10


@settings(max_examples=80, deadline=None)
@given(WORDS, GLUED, st.sampled_from(["obp", "cllmfs"]), st.sampled_from(list(TOKENIZERS)), st.booleans())
@hypothesis.example([">>>"] * 3, {1, 2}, "obp", "merges", False)
def test_places_are_the_fewest_tokens_with_all_of_the_text(
    words: list[str], glued: set[int], wording: str, name: str, plain: bool
) -> None:
    tokenizer = TOKENIZERS[name]
    dialogue = Dialogue(tokenizer, "plain" if plain else "bare", FULL)
    for example in examples(words, glued, wording):
        (row,) = dialogue.rows([example])
        marks, places = example.marks, row.contrast
        assert marks is not None and places is not None and len(places.entities) == len(marks.entities)
        for (low, high), (first, last) in zip(
            (marks.type, marks.sentence, *marks.entities),
            (places.anchor, places.sentence, *places.entities),
            strict=True,
        ):
            shown = example.prompt[low:high]
            ids = row.ids
            whole = tokenizer.decode(ids[first:last], clean_up_tokenization_spaces=False)
            assert shown in whole
            once = whole.find(shown) == whole.rfind(shown)  # of '>>>>' one may show '>>>' with a token less
            for less in (ids[first + 1 : last], ids[first : last - 1]):
                assert shown not in tokenizer.decode(less, clean_up_tokenization_spaces=False) or not once
            before = tokenizer.decode(ids[:last], skip_special_tokens=True, clean_up_tokenization_spaces=False)
            assert len(before.lstrip()) >= high > len(before.lstrip()) - (last - first) * 40
        assert all(places.sentence[0] <= a < b <= places.sentence[1] for a, b in places.entities)


def test_the_worked_example_of_places() -> None:
    dialogue = Dialogue(TOKENIZERS["bytes"], "bare", FULL)
    (row,) = dialogue.rows(examples(["any", "good", "thai"], set())[:1])
    places = row.contrast
    assert places is not None

    def shown(place: tuple[int, int]) -> str:
        return str(TOKENIZERS["bytes"].decode(row.ids[slice(*place)]))

    assert (shown(places.anchor), shown(places.sentence)) == ("thing", "any good thai")
    assert [shown(place) for place in places.entities] == ["any", "good thai"]
    assert places.anchor[0] == len(HEADER) + len("I want you to extract ")


HEADER = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n### Instruction:\n"
)


def test_a_prompt_that_was_cut_has_no_places_and_keeps_its_lead() -> None:
    example = examples(["thai"], set())[0]
    tokenizer = TOKENIZERS["bytes"]
    whole = len(Dialogue(tokenizer, "bare", FULL).prompt(example))
    for limit in (whole, whole - 1, 60, 20):
        dialogue = Dialogue(tokenizer, "bare", limit)
        (row,), prompt = dialogue.rows([example]), dialogue.prompt(example)
        assert len(prompt) == limit and row.ids[:limit] == prompt and len(row.ids) == len(row.learned)
        assert tokenizer.decode(prompt).endswith(example.lead[-20:])
        assert (row.contrast is None) == (limit < whole)
        assert sum(row.learned[:limit]) == min(len(example.lead), limit)


def test_what_has_no_tokens_or_no_marks_has_no_places() -> None:
    example = examples(["thai"], set())[0]
    dialogue = Dialogue(TOKENIZERS["bytes"], "bare", FULL)
    assert example.marks is not None
    (row,) = dialogue.rows([replace(example, marks=replace(example.marks, type=(5, 5)))])
    assert row.contrast is None
    (row,) = dialogue.rows([replace(example, marks=Marks((0, 1), (1, 2), ((9, 9),)))])
    assert row.contrast is not None and row.contrast.entities == ()
    (row,) = dialogue.rows([replace(example, marks=None)])
    assert row.contrast is None


def test_a_chat_template_has_no_place_for_a_lead() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    dialogue = Dialogue(tokenizer, "chat", FULL)
    for use in (dialogue.prompt, lambda example: dialogue.rows([example])):
        with pytest.raises(ConfigError, match="no place"):
            use(examples(["thai"], set())[0])
