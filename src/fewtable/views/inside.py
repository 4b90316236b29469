"""What goes on in a layer of a decoder-only model that is asked about a sentence, from tokens back to words.

Followed: OBP-LLM, Figures 1, 4 and 5 (methods/15): the layer of the contrast, the mean over its heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch

from fewtable.corpus import Entity, Sentence
from fewtable.decoding.generate import layout, pad
from fewtable.errors import ConfigError, DataError
from fewtable.formats.brackets import Brackets
from fewtable.training.contrast import Contrast, layer_number, means, reading
from fewtable.training.sft import Range

if TYPE_CHECKING:
    from fewtable.families._text import TextSession

BATCH = 8
"""Questions a forward. No knob: the last digits change with the batch."""


@dataclass(frozen=True)
class Question:
    """A question about a type of a sentence, with its right answer, as tokens."""

    ids: tuple[int, ...]
    start: int
    """Where the answer goes on that is not given."""
    type: Range
    """The first mention of the type's name."""
    spans: tuple[Range, ...]
    """The tokens of the spans that were asked for."""


def question(
    session: TextSession, form: Brackets, sentence: Sentence, name: str, spans: Sequence[tuple[int, int]]
) -> Question:
    """Return a question about type ``name``.

    Args:
        session: turns questions into tokens.
        form: the format for the task's types.
        sentence: with its gold entities.
        name: the type's name.
        spans: of words: start, end (exclusive).

    Raises:
        DataError: the prompt is longer than the method allows, so that its beginning is cut.
    """
    marked = replace(sentence, entities=tuple(Entity(start, end, name) for start, end in spans))
    example = replace(form.ask(sentence, name), marks=form.ask(marked, name, marked=True).marks)
    (row,) = session.rows([example])
    if row.contrast is None or len(row.contrast.entities) < len(spans):
        raise DataError(
            f"the question about '{name}' does not fit in a prompt: {sentence.text}",
            fix="raise train.prompt_length of the method, or take another sentence",
        )
    # The spans stand in the order of the marks, which is theirs in the sentence.
    order = sorted(range(len(spans)), key=lambda n: spans[n])
    tokens = dict(zip(order, row.contrast.entities, strict=True))
    ranges = tuple(tokens[n] for n in range(len(spans)))
    return Question(row.ids, len(session.prompt(example)), row.contrast.anchor, ranges)


def numbered(model: Any, layer: Literal["auto"] | int) -> int:
    """Return the number of a layer, from 1; ``auto``: as deep as the 26th of 32.

    Raises:
        ConfigError: the model has no such layer.
    """
    count = len(model.get_decoder().layers)
    number = layer_number(count) if layer == "auto" else layer
    if number > count:
        raise ConfigError(f"the model has {count} layers, none of number {number}", where="layer", fix="auto")
    return number


def attention(model: Any, asked: Question, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where a layer looks while a model writes the right answer, the mean over the heads.

    Returns:
        (tokens of the answer, spans): the attention on a span is the sum over its tokens, from the token before the one
        that is written, which the model writes it from; and (tokens of the answer,): that on all else. Together they
        are 1.
    """
    model.set_attn_implementation("eager")  # no other gives the weights
    with torch.inference_mode():
        ids = torch.tensor([asked.ids], device=model.device)
        output = model.get_decoder()(input_ids=ids, output_attentions=True, use_cache=False)
    weights = output.attentions[layer - 1][0].float().mean(0).cpu()
    rows = weights[asked.start - 1 : len(asked.ids) - 1]
    return by_span(rows, asked.spans)


def by_span(rows: torch.Tensor, spans: Sequence[Range]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sums of rows (n, tokens) over spans, (n, spans), and over the tokens of none, (n,).

    A token that has a part of several spans counts in the first of them.
    """
    owner = torch.full((rows.shape[1],), len(spans))
    for number, (start, end) in reversed(list(enumerate(spans))):
        owner[start:end] = number
    sums = rows.new_zeros(len(rows), len(spans) + 1).index_add(1, owner, rows)
    return sums[:, :-1], sums[:, -1]


def cosines(model: Any, asked: Question, layer: int) -> torch.Tensor:
    """Return what the contrast trains, (spans,): the cosine of the type's query with each span's key.

    Both are the projections before positions, the mean over heads and tokens (OBP-LLM, equations 3 to 5).
    """
    with torch.inference_mode(), reading(model, Contrast(layer=layer)) as seen:
        model.get_decoder()(input_ids=torch.tensor([asked.ids], device=model.device), use_cache=False)
        query = means(seen["queries"][0], [range(*asked.type)])
        keys = means(seen["keys"][0], [range(*span) for span in asked.spans])
    return (keys @ query[0]).cpu()


class Vectors(NamedTuple):
    """The spans of a question, (spans, size) each: of length 1, the mean over a span's tokens."""

    hidden: torch.Tensor
    """The layer's output."""
    keys: torch.Tensor
    """What the contrast trains: the keys before positions, the mean over heads."""


def represented(model: Any, asked: Sequence[Question], layer: int) -> list[Vectors]:
    """Return the vectors of each question's spans.

    Args:
        model: a decoder-only one.
        asked: questions; of each, what stands after its last span is not read, for it cannot matter.
        layer: number of the layer, from 1.
    """
    texts = [question.ids[: max(end for _, end in question.spans)] for question in asked]
    found: dict[int, Vectors] = {}
    output, projections = Contrast(layer=layer, features="hidden"), Contrast(layer=layer)
    for batch in layout([len(text) for text in texts], BATCH):
        ids, mask = (t.to(model.device) for t in pad([texts[n] for n in batch], 0, left=False))
        with torch.inference_mode(), reading(model, output) as states, reading(model, projections) as seen:
            model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False)
        for place, number in enumerate(batch):
            tokens = [range(*span) for span in asked[number].spans]
            both = (means(states["both"][place], tokens), means(seen["keys"][place], tokens))
            found[number] = Vectors(*(vectors.cpu() for vectors in both))
    return [found[number] for number in range(len(asked))]
