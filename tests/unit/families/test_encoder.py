"""Word vectors: first pieces, windows, words without pieces, and a layout that doesn't change the answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_encoder import build

from fewtable.errors import DataError
from fewtable.training.encoder import Encoder

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


def test_weights_come_back(folder: Path, tmp_path: Path) -> None:
    encoder = Encoder(folder, "float32")
    (window,) = encoder.windows(WORDS)
    with torch.no_grad():
        before = encoder.states([window])
        for parameter in encoder.model.parameters():
            parameter += 0.1
        changed = encoder.states([window])
        encoder.save(tmp_path)
        encoder.restore()
        assert torch.equal(encoder.states([window]), before)
        encoder.load(tmp_path)
        assert torch.equal(encoder.states([window]), changed)
    assert not torch.equal(before, changed)


def test_weights_of_another_encoder_are_refused(folder: Path, tmp_path: Path) -> None:
    other = Encoder(build(tmp_path / "other", WORDS, hidden=32), "float32")
    other.save(tmp_path / "run")
    with pytest.raises(DataError, match="another encoder"):
        Encoder(folder, "float32").load(tmp_path / "run")
    with pytest.raises(DataError, match="no encoder"):
        Encoder(folder, "float32").load(tmp_path / "none")
