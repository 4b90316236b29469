"""Word vectors: first pieces, windows, words without pieces, and a layout that doesn't change the answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_encoder import build, build_bart
from transformers import AutoTokenizer, RobertaConfig, RobertaModel

from fewtable.backbones import materialise
from fewtable.errors import ConfigError, DataError
from fewtable.registry import Registry
from fewtable.training.encoder import Encoder, Window

WORDS = ("the", "red", "house", "of", "anna")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bert"), WORDS, layers=4)


def words_of(text: str) -> list[str]:
    return text.split(" ")


def test_words_are_seen_by_their_first_piece(folder: Path) -> None:
    encoder = Encoder(folder, "float32")
    (window,) = encoder.windows(words_of("the xyz house"))
    assert (len(window.ids), window.first, window.words) == (2 + 1 + 3 + 1, (1, 2, 5), (0, 1, 2))
    with torch.no_grad():
        hidden = encoder.model(input_ids=torch.tensor([window.ids])).last_hidden_state[0]
        torch.testing.assert_close(encoder.states([window]), hidden[[1, 2, 5]])


def test_sum4_adds_the_last_four_layers(folder: Path) -> None:
    encoder = Encoder(folder, "float32", "sum4")
    (window,) = encoder.windows(WORDS)
    with torch.no_grad():
        layers = encoder.model(input_ids=torch.tensor([window.ids]), output_hidden_states=True).hidden_states
        torch.testing.assert_close(encoder.states([window]), sum(layers[-4:])[0, 1:6])


def test_words_without_pieces_have_no_vector(folder: Path) -> None:
    encoder = Encoder(folder, "float32")
    (window,) = encoder.windows(["the", "\u200b", "house"])
    assert window.words == (0, 2)
    assert encoder.windows(["\u200b"]) == encoder.windows([]) == []
    assert dict(encoder.vectors([[], [window]]))[0].shape == (0, 64)


def test_all_pieces_of_a_word_follow_on_each_other_over_windows_too(folder: Path) -> None:
    encoder = Encoder(folder, "float32", window=8)
    windows = encoder.windows(words_of("the xyz \u200b house ab of"))
    assert [w.words for w in windows] == [(0, 1, 3), (4, 5)]
    with torch.no_grad():
        states, ranges = encoder.piece_states(windows)
        assert ranges == [(0, 1), (1, 4), (4, 5), (5, 7), (7, 8)]
        hidden = [encoder.model(input_ids=torch.tensor([w.ids])).last_hidden_state[0, 1:-1] for w in windows]
        torch.testing.assert_close(states, torch.cat(hidden))
        torch.testing.assert_close(states[[start for start, _ in ranges]], encoder.states(windows))


def test_long_sentences_are_cut_at_words(folder: Path) -> None:
    encoder = Encoder(folder, "float32", window=8)
    windows = encoder.windows(words_of("the red house of anna the xxxx xxxxxxxxxxxx red"))
    assert [w.words for w in windows] == [(0, 1, 2, 3, 4, 5), (6,), (7,), (8,)]
    assert all(len(w.ids) <= 8 for w in windows)
    ((_, vectors),) = encoder.vectors([windows])
    assert vectors.shape == (9, 64)
    with torch.no_grad():
        torch.testing.assert_close(vectors, torch.cat([encoder.states([w]) for w in windows]), atol=1e-5, rtol=1e-5)


def test_vectors_do_not_depend_on_the_neighbours(folder: Path) -> None:
    encoder = Encoder(folder, "float32")
    sentences = [encoder.windows([WORDS[(i * j) % 5] for j in range(1 + i % 9)]) for i in range(70)]
    together = dict(encoder.vectors(sentences))
    assert sorted(together) == list(range(70))
    for index in (0, 8, 44, 69):
        ((_, alone),) = encoder.vectors([sentences[index]])
        torch.testing.assert_close(alone, together[index], atol=1e-5, rtol=1e-5)
    again = dict(encoder.vectors(sentences))
    assert all(torch.equal(together[i], again[i]) for i in together)


def check_weights_come_back(encoder: Encoder, saved: Path) -> None:
    (window,) = encoder.windows(WORDS)
    with torch.no_grad():
        before = encoder.states([window])
        for parameter in encoder.model.parameters():
            parameter += 0.1
        changed = encoder.states([window])
        encoder.save(saved)
        encoder.restore()
        assert torch.equal(encoder.states([window]), before)
        encoder.load(saved)
        assert torch.equal(encoder.states([window]), changed)
    assert not torch.equal(before, changed)


def test_weights_come_back(folder: Path, tmp_path: Path) -> None:
    check_weights_come_back(Encoder(folder, "float32"), tmp_path)


def test_weights_of_another_encoder_are_refused(folder: Path, tmp_path: Path) -> None:
    other = Encoder(build(tmp_path / "other", WORDS, hidden=32), "float32")
    other.save(tmp_path / "run")
    with pytest.raises(DataError, match="another encoder"):
        Encoder(folder, "float32").load(tmp_path / "run")
    with pytest.raises(DataError, match="no encoder"):
        Encoder(folder, "float32").load(tmp_path / "none")


@pytest.mark.parametrize("padding", [0, 1])
def test_roberta_has_fewer_positions_than_its_table(folder: Path, tmp_path: Path, padding: int) -> None:
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    torch.manual_seed(0)
    RobertaModel(
        RobertaConfig(
            vocab_size=100, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
            max_position_embeddings=13 + padding, pad_token_id=padding,
        )
    ).save_pretrained(tmp_path)  # fmt: skip
    encoder = Encoder(tmp_path, "float32", window=512)
    windows = encoder.windows(WORDS * 5)
    assert [len(w.ids) for w in windows] == [12, 12, 7]
    with torch.no_grad():
        assert encoder.states(windows).isfinite().all()


@pytest.fixture(scope="module")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bart(tmp_path_factory.mktemp("bart"), WORDS)


def test_position_i_of_bart_has_read_piece_i(bart: Path) -> None:
    encoder = Encoder(bart, "float32")
    for name, parameter in encoder.model.named_parameters():
        if "encoder_attn.out_proj" in name:  # the decoder alone: it sees no piece after its own
            torch.nn.init.zeros_(parameter)
    left, right = (Window(ids, tuple(range(6)), ()) for ids in ((0, 4, 5, 6, 7, 2), (0, 4, 5, 8, 7, 2)))
    with torch.no_grad():
        same = (encoder.states([left]) == encoder.states([right])).all(1)
    assert same.tolist() == [True, True, True, False, False, False]


def test_bart_reads_the_sentence_in_both_halves(bart: Path) -> None:
    encoder = Encoder(bart, "float32", "sum4")
    (window,) = encoder.windows(WORDS)
    ids = torch.tensor([window.ids])
    with torch.no_grad():
        layers = encoder.model(input_ids=ids, decoder_input_ids=ids, output_hidden_states=True).decoder_hidden_states
        torch.testing.assert_close(encoder.states([window]), sum(layers[-4:])[0, 1:6])
        shorter = encoder.windows(WORDS[:2])
        together, alone = encoder.states([window, *shorter])[5:], encoder.states(shorter)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_words_are_encoded_after_a_space(root: Path, tmp_path: Path) -> None:
    materialise("tiny-bart", Registry(root / "config").backbone("tiny-bart"), tmp_path / "tiny-bart")
    encoder = Encoder(tmp_path / "tiny-bart", "float32")
    (window,) = encoder.windows(["ab", "c\u200b"])
    pieces = encoder._tokenizer.convert_ids_to_tokens(window.ids)
    assert pieces == ["<s>", "\u0120", "a", "b", "\u0120", "c", "\u00e2", "\u0122", "\u012d", "</s>"]
    assert window.first == (1, 4)


def test_weights_of_a_bart_come_back_with_their_ties(bart: Path, tmp_path: Path) -> None:
    encoder = Encoder(bart, "float32")
    check_weights_come_back(encoder, tmp_path)
    names = dict(encoder.model.named_parameters(remove_duplicate=False))
    tied = {"shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}
    assert len({names[name].data_ptr() for name in tied}) == 1


def test_other_encoder_decoders_are_refused(root: Path, tmp_path: Path) -> None:
    materialise("tiny-t5", Registry(root / "config").backbone("tiny-t5"), tmp_path / "tiny-t5")
    with pytest.raises(ConfigError, match="decoder of type 't5'"):
        Encoder(tmp_path / "tiny-t5", "float32")


def test_markers_are_pieces_that_no_text_spells(folder: Path) -> None:
    plain, marked = Encoder(folder, "float32"), Encoder(folder, "float32", window=8, markers=2)
    size = len(plain._tokenizer)
    assert marked.markers == (size, size + 1)
    assert max(len(w.ids) for w in marked.windows([*WORDS, "[E]", "[/E]"])) == 6, "room is left for them"
    again = Encoder(folder, "float32", markers=2)
    window = Window((2, size, 5, size + 1, 3), (1, 2, 3), (0, 1, 2))
    with torch.no_grad():
        assert torch.equal(marked.states([window]), again.states([window]))
