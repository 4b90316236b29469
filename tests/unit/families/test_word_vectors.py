"""Word vectors over many draws: encoded once, the same whatever came before, forgotten when the weights change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tiny_encoder import build

from fewtable.corpus import Sentence
from fewtable.errors import DataError
from fewtable.training import unpadded
from fewtable.training.encoder import Encoder, Layers, Window
from fewtable.training.words import Words, hand_on, tagged

SENTENCES = [tuple(t.split()) for t in ("anna saw york", "she likes paris a lot", "bob saw \u200b there", "anna", "")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bert"), [w for s in SENTENCES for w in s])


@pytest.fixture
def words(folder: Path) -> Words:
    return Words(Encoder(folder, "float32"), normalise=True)


def counted(words: Words, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the windows of each call for new vectors from now on."""
    seen: list[int] = []
    original = unpadded.states

    def states(encoder: Encoder, windows: Sequence[Window]) -> torch.Tensor:
        seen.append(len(windows))
        return original(encoder, windows)

    monkeypatch.setattr(unpadded, "states", states)
    return seen


def test_vectors_are_those_of_the_encoder_and_each_sentence_is_encoded_once(
    words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, places = words(SENTENCES)
    assert places == [[0, 1, 2], [0, 1, 2, 3, 4], [0, 1, 3], [0], []]
    plain = dict(words.encoder.vectors([words.encoder.windows(s) for s in SENTENCES]))
    for index, found in enumerate(vectors):
        expected = torch.nn.functional.normalize(plain[index], dim=-1)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    seen = counted(words, monkeypatch)
    again, _ = words([SENTENCES[2], SENTENCES[0], SENTENCES[0]])
    assert sum(seen) == 0
    assert torch.equal(again[0], vectors[2])


def test_what_came_before_changes_no_bit(folder: Path) -> None:
    early, late = (Words(Encoder(folder, "float32"), normalise=False) for _ in range(2))
    one, _ = early(SENTENCES)
    late([SENTENCES[3]])
    two, _ = late(SENTENCES[::-1])
    assert all(torch.equal(a, b) for a, b in zip(one, two[::-1], strict=True))


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("layers", ["last", "sum4"])
def test_end_to_end_a_sentence_reads_as_by_itself(tmp_path: Path, kind: str, layers: Layers) -> None:
    many = [tuple(f"w{n}" for n in range(start, start + size)) for start, size in ((0, 40), (3, 1), (9, 30), (5, 25))]
    many += [tuple(f"w{(7 * n + k) % 45}" for n in range(3 + k)) for k in range(28)]
    folder = build(tmp_path / "bert", [f"w{n}" for n in range(45)], hidden=48, layers=4)
    if kind == "roberta":
        _as_roberta(folder)
    encoder = Encoder(folder, "float32", layers)
    windows = [w for s in many for w in encoder.windows(s)]
    assert sum(len(w.ids) for w in windows) > unpadded.PACK
    together = unpadded.states(encoder, windows)
    with torch.inference_mode():
        torch.testing.assert_close(together, encoder.states(windows), atol=2e-5, rtol=1e-4)
    alone = torch.cat([unpadded.states(encoder, [w]) for w in windows])
    assert torch.equal(together, alone)
    assert encoder.model.config._attn_implementation == "sdpa"


def _as_roberta(folder: Path) -> None:
    """Put a random RoBERTa in the place of the BERT; its positions begin behind the number of the padding piece."""
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=100, hidden_size=48, num_hidden_layers=4, num_attention_heads=2, intermediate_size=96,
        max_position_embeddings=70, pad_token_id=0, type_vocab_size=1,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(folder)


def test_the_oldest_vectors_are_forgotten_beyond_the_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = Words(Encoder(folder, "float32"), normalise=False, limit=4 * 64 * 4)  # four words of 64 numbers
    words(SENTENCES)
    seen = counted(words, monkeypatch)
    words([SENTENCES[2], SENTENCES[3]])
    assert sum(seen) == 0
    words([SENTENCES[1]])
    assert sum(seen) == 1


def test_weights_are_read_when_they_are_others(words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words.encoder.save(tmp_path / "a")
    hand_on(tmp_path / "a", tmp_path / "b", "encoder.safetensors", "absent.safetensors")
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["encoder.safetensors"]
    words.start(tmp_path / "a")
    before, _ = words(SENTENCES[:1])
    seen = counted(words, monkeypatch)
    words.start(tmp_path / "b")  # one file under two names
    words(SENTENCES[:1])
    assert sum(seen) == 0
    words.start(None)
    words(SENTENCES[:1])
    assert sum(seen) == 1
    with torch.no_grad():
        next(words.encoder.model.parameters()).mul_(2)
    words.changed()
    words.start(None)
    after, _ = words(SENTENCES[:1])
    assert torch.equal(before[0], after[0])
    with pytest.raises(DataError, match="has no encoder"):
        words.start(tmp_path / "nowhere")


def test_where_no_second_name_can_be_given_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")

    def refuse(*names: object) -> None:
        raise OSError

    monkeypatch.setattr("os.link", refuse)
    hand_on(tmp_path / "a", tmp_path / "b", "x")
    assert (tmp_path / "b" / "x").read_text() == "1"


def test_the_vector_of_a_text_is_that_of_its_first_piece(words: Words) -> None:
    found = words.texts(["she likes", "anna"])
    window = words.encoder.windows(["she", "likes"])[0]
    ids = torch.tensor([window.ids], device=words.encoder.device)
    with torch.no_grad():
        whole = words.encoder.model(input_ids=ids).last_hidden_state[0, 0]
    torch.testing.assert_close(found[0], whole, atol=1e-5, rtol=1e-4)
    assert found.shape == (2, 64)


def test_words_without_a_vector_are_o() -> None:
    sentences = [Sentence("test-0", ("a", "\u200b", "c")), Sentence("test-1", ())]
    assert list(tagged(sentences, [[0, 2], []], [[1, 0], []], ["O", "x"])) == [["x", "O", "O"], []]
