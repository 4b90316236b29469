"""The pointer model: targets, scores and loss by hand, prompts in every attention, and decoding with a cache."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import tiny_pointer
import torch
from tiny_pointer import KINDS, SUPPORT, sentence
from transformers import AutoModel

from fewtable.corpus import Entity
from fewtable.decoding.pointer import greedy
from fewtable.training.encoder import Encoder, Window
from fewtable.training.pointer import EOS, SOS, NewLabels, PointerModel, Verbaliser
from fewtable.training.pointer_prompts import Prefix, Prompts

RESTAURANT = {
    name: name.replace("_", " ").lower()
    for name in ("Rating", "Amenity", "Location", "Restaurant_Name", "Price", "Hours", "Dish", "Cuisine")
}


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pointer.build(root, tmp_path_factory.mktemp("backbones") / "tiny-bart")


def plain(folder: Path) -> Any:
    return AutoModel.from_pretrained(folder, attn_implementation="eager").eval()


def test_the_worked_example_of_the_specification(folder: Path) -> None:
    model = tiny_pointer.model(folder, "bartner", RESTAURANT)
    # any good thai food near the fen-way park, one piece a word but for the seventh.
    window = Window(tuple(range(11)), (1, 2, 3, 4, 5, 6, 7, 9), tuple(range(8)))
    entities = (Entity(1, 2, "Rating"), Entity(2, 3, "Cuisine"), Entity(4, 8, "Location"))
    target = model._target(window, entities[::-1])
    assert target == (12, 2, 13, 9, 15, 16, 17, 19, 4, 1)
    assert model.spell(window, target[:-1]) == [1, "Rating", 2, "Cuisine", 4, 5, 6, 7, "Location"]
    assert model.spell(window, (18, 17)) == [[6, 1], 6]


def test_entities_that_a_border_cuts_are_left_out(folder: Path) -> None:
    model = tiny_pointer.model(folder, "bartner")
    model._encoder = Encoder(folder, "float32", window=12)  # ten bytes: two words of four letters and their spaces
    first, second = model.prepare([sentence(0, "anna york paul rome", (0, 1, "per"), (1, 3, "loc"), (2, 4, "loc"))])
    assert (first.window.words, second.window.words) == ((0, 1), (2, 3))
    assert (first.target, second.target) == ((5, 2, EOS), (5, 10, 3, EOS))


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_one_softmax_over_types_and_positions(folder: Path, kind: str) -> None:
    model = tiny_pointer.model(folder, kind)
    rows = model.prepare(SUPPORT)
    assert rows[1].target == (EOS,)
    table = model.bart.shared.weight
    read, scored = model.labels(table)
    expected, count = 0.0, 0
    with torch.no_grad():
        prefix = {} if model.prompts is None else {"prefix": model.prompts()}
        for row in rows:
            ids = torch.tensor([row.window.ids])
            states = model.bart.encoder(input_ids=ids, **prefix).last_hidden_state
            keys = [table[2], *scored, *((model.mlp(states)[0] + table[ids[0]]) / 2)[1:-1]]
            names = [EOS, 2, 3, *range(5, 5 + len(row.window.ids) - 2)]
            inputs = {SOS: table[0], 2: read[0], 3: read[1]}
            inputs |= {4 + place: table[piece] for place, piece in enumerate(row.window.ids)}
            given = torch.stack([inputs[token] for token in (SOS, *row.target[:-1])])[None]
            hidden = model.bart.decoder(inputs_embeds=given, encoder_hidden_states=states, **prefix)
            for state, gold in zip(hidden.last_hidden_state[0], row.target, strict=True):
                scores = [float(state @ key) for key in keys]
                expected += math.log(sum(map(math.exp, scores))) - scores[names.index(gold)]
                count += 1
        total, tokens = model.loss(rows)
    assert tokens == count == 6 + 1 + 5
    assert float(total) == pytest.approx(expected, rel=1e-4)


def test_nothing_but_pieces_types_and_the_end_is_ever_written(folder: Path) -> None:
    model = tiny_pointer.model(folder, "bartner")
    long, short = (row.window for row in model.prepare(SUPPORT[::2]))
    source = model.read([long, short])
    scores = model.scores(source, torch.tensor([[SOS], [SOS]]))[:, 0]
    for window, row in zip((long, short), torch.isfinite(scores), strict=True):
        legal = {EOS, 2, 3, *range(4 + 1, 4 + len(window.ids) - 1)}
        assert set(row.nonzero()[:, 0].tolist()) == legal


def test_new_labels_are_the_mean_of_their_pieces_and_change_no_piece(folder: Path) -> None:
    before = plain(folder).shared.weight
    encoder = Encoder(folder, "float32")
    (window,) = encoder.windows(["place", "name"])
    model = tiny_pointer.model(folder, "bartner")
    assert isinstance(model.labels, NewLabels)
    torch.testing.assert_close(model.labels.rows[1], before[list(window.ids[1:-1])].mean(0))
    assert torch.equal(model.bart.shared.weight, before)


def test_a_verbaliser_reads_the_first_piece_and_scores_a_weighted_mean() -> None:
    table = torch.randn(9, 4)
    verbaliser = Verbaliser([[3], [5, 7, 8]])
    assert ((verbaliser.weights >= 1.0) & (verbaliser.weights <= 2.5)).all()
    with torch.no_grad():
        verbaliser.weights[1] = torch.tensor([0.0, math.log(2), math.log(5)])
    read, scored = verbaliser(table)
    torch.testing.assert_close(read, table[[3, 5]])
    torch.testing.assert_close(scored, torch.stack([table[3], (table[5] + 2 * table[7] + 5 * table[8]) / 8]))


def outputs(model: PointerModel, prefix: Prefix | None) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([[0, 9, 8, 7, 2], [0, 9, 2, 1, 1]])
    extra = {} if prefix is None else {"prefix": prefix}
    with torch.no_grad():
        states = model.bart.encoder(input_ids=ids, attention_mask=(ids != 1).long(), **extra).last_hidden_state
        hidden = model.bart.decoder(
            input_ids=ids[:, :4], encoder_hidden_states=states, encoder_attention_mask=(ids != 1).long(), **extra
        ).last_hidden_state
    return states, hidden


def test_prompts_of_length_zero_are_plain_bart(folder: Path) -> None:
    bart = plain(folder)
    ids = torch.tensor([[0, 9, 8, 7, 2], [0, 9, 2, 1, 1]])
    with torch.no_grad():
        expected = bart(input_ids=ids, attention_mask=(ids != 1).long(), decoder_input_ids=ids[:, :4])
    model = tiny_pointer.model(folder, "lightner")
    for prefix in (None, Prompts(bart.config, 0, 8)()):
        states, hidden = outputs(model, prefix)
        torch.testing.assert_close(states, expected.encoder_last_hidden_state)
        torch.testing.assert_close(hidden, expected.last_hidden_state)


def test_every_layer_of_every_attention_sees_its_own_prompts(folder: Path) -> None:
    model = tiny_pointer.model(folder, "lightner")
    assert model.prompts is not None
    whole = model.prompts()
    states, hidden = outputs(model, whole)
    sets = {name: getattr(whole, name) for name in ("encoder", "decoder", "cross")}
    seen = []
    for name, layer, part in product(sets, range(2), range(2)):
        moved = [list(pair) for pair in sets[name]]
        assert moved[layer][part].shape == (1, 2, 3, 32)
        moved[layer][part] = moved[layer][part] + torch.randn(moved[layer][part].shape)
        changed = Prefix(**{**sets, name: tuple((k, v) for k, v in moved)})
        new_states, new_hidden = outputs(model, changed)
        assert torch.equal(new_states, states) == (name != "encoder")
        assert not torch.allclose(new_hidden, hidden, atol=1e-5)
        seen.append(new_hidden)
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_prompts_are_keys_and_values_before_the_others(folder: Path) -> None:
    model = tiny_pointer.model(folder, "lightner")
    attention = model.bart.encoder.layers[1].self_attn
    assert model.prompts is not None
    prefix = model.prompts()
    given = torch.randn(1, 5, 64)
    with torch.no_grad():
        found, _ = attention(given, attention_mask=None, prefix=prefix)
        heads = []
        for head in range(2):
            part = slice(32 * head, 32 * head + 32)
            keys = torch.cat([prefix.encoder[1][0][0, head], attention.k_proj(given)[0, :, part]])
            values = torch.cat([prefix.encoder[1][1][0, head], attention.v_proj(given)[0, :, part]])
            scores = attention.q_proj(given)[0, :, part] @ keys.T / math.sqrt(32)
            heads.append(scores.softmax(-1) @ values)
        torch.testing.assert_close(found[0], attention.out_proj(torch.cat(heads, -1)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_neighbours_in_a_batch_change_nothing(folder: Path, kind: str) -> None:
    model = tiny_pointer.model(folder, kind)
    windows = [row.window for row in model.prepare(SUPPORT)]
    tokens = torch.tensor([[SOS, 6, 2], [SOS, 5, 3], [SOS, 2, 7]])
    with torch.no_grad():
        together = model.scores(model.read(windows), tokens)
        for row, window in enumerate(windows):
            alone = model.scores(model.read([window]), tokens[row : row + 1])
            torch.testing.assert_close(alone[0], together[row, :, : alone.shape[2]], atol=1e-5, rtol=1e-5)


def without_cache(model: PointerModel, window: Window, limit: int) -> list[int]:
    """The plain way: all that was written goes through the decoder again for each token."""
    written: list[int] = []
    while len(written) < limit:
        with torch.no_grad():
            scores = model.scores(model.read([window]), torch.tensor([[SOS, *written]]))
        token = int(scores[0, -1].argmax())
        if token == EOS:
            break
        written.append(token)
    return written


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_with_a_cache_gives_what_the_plain_way_gives(folder: Path, kind: str) -> None:
    model = tiny_pointer.model(folder, kind)
    rows = model.prepare(SUPPORT)
    optimizer = torch.optim.AdamW(model.requires_grad_(True).parameters(), lr=2e-3)
    for _ in range(100):  # random weights answer with one token again and again, these as they should
        optimizer.zero_grad()
        model.loss(rows)[0].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    texts = ("york", "she left early and saw anna again", "new anna in york", "a", "york left")
    windows = [row.window for row in (*rows, *model.prepare([sentence(i, text) for i, text in enumerate(texts)]))]
    limits = [25, 10, 3, 3, 40, 0, 11, 20]
    expected = [without_cache(model, w, n) for w, n in zip(windows, limits, strict=True)]
    assert [tuple(answer) for answer in expected[:2]] == [row.target[:-1] for row in rows[:2]]
    for size in (1, 3, 8):
        assert greedy(model, windows, limits, size, start=SOS, stop=EOS) == expected
    assert expected[5] == [] and len(expected[2]) == 3 and len({tuple(answer) for answer in expected}) >= 4
