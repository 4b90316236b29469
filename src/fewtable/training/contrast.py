"""The contrast of OBP-LLM: one layer's states of a type's name are drawn to its entities, and away from what is beside.

The states are read in the forward of the fine-tuning itself, by hooks that are there for that forward alone. Followed:
section 3.3 and equations 3 to 5 of the OBP-LLM paper; CLLMFS and BANER are the same with other options.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fewtable.errors import ConfigError
from fewtable.specs import Spec
from fewtable.training.parallel import summed

if TYPE_CHECKING:
    import torch

    from fewtable.training.sft import Loss, Places, Range, Row

DEPTH = 26 / 32
"""Where the paper's layer lies: the 26th of Llama-3.1-8B's 32."""


class Contrast(Spec):
    """What is drawn together and what apart."""

    weight: Annotated[float, Field(gt=0)] = 0.01
    """Of the contrast in the loss."""
    layer: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Number of the layer, from 1; ``auto``: the one as deep as the paper's."""
    features: Literal["projections", "hidden"] = "projections"
    """The type's query and the words' keys, as projected (before positions), mean over heads; or the layer's output."""
    anchor: Literal["mean", "first"] = "mean"
    """The type's name: the mean of its tokens, or the first of them."""
    positives: Literal["mean", "ends"] = "mean"
    """An entity: the mean of its tokens; or its first and its last one, twice the same where there is one only."""
    neighbours: Literal[1, 2] = 1
    """Tokens on each side of an entity that are its negatives."""
    form: Literal["sigmoid", "infonce"] = "sigmoid"
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Divides the cosines."""
    per_entity: bool = False
    """Each entity is one term of the mean; otherwise each example, which sums over its entities (``infonce``: takes
    their mean)."""


def layer_number(layers: int) -> int:
    """Return the layer (from 1) of a model with so many that is as deep as the 26th of 32."""
    return max(1, math.floor(DEPTH * layers + 0.5))


def beside(places: Places, entity: Range, count: int) -> list[int]:
    """Return the tokens next to an entity, at most ``count`` a side: in the sentence and in no entity of the type."""
    first, end = places.sentence
    near = [*range(entity[0] - count, entity[0]), *range(entity[1], entity[1] + count)]
    inside = [token for token in near if first <= token < end]
    return [token for token in inside if not any(low <= token < high for low, high in places.entities)]


def terms(row: Row, options: Contrast) -> int:
    """Return how many terms of the mean a row has: none without an entity."""
    if row.contrast is None:
        return 0
    return len(row.contrast.entities) if options.per_entity else bool(row.contrast.entities)


def shared(rows: Sequence[Row], options: Contrast) -> list[Row]:
    """Return the rows of a step, each knowing what a term of it counts beside a learned token.

    A loss that is divided by the step's learned tokens is then their mean plus the mean of the terms, however the step
    is split.
    """
    tokens = sum(sum(row.learned[1:]) for row in rows)
    share = tokens / max(sum(terms(row, options) for row in rows), 1)
    return [row if row.contrast is None else replace(row, contrast=replace(row.contrast, share=share)) for row in rows]


@dataclass(frozen=True, slots=True)
class _Picked:
    """Tokens of a pack, in groups that are averaged; and what each group is to its anchor."""

    anchors: list[list[int]]
    groups: list[list[int]]
    anchor: list[int]
    """Of each group."""
    term: list[int]
    """Of each group."""
    entity: list[int]
    """Of each group."""
    positive: list[bool]
    row: list[int]
    """Of each term."""


def _picked(rows: Sequence[Row], at: Sequence[Sequence[int]], options: Contrast) -> _Picked:
    found = _Picked([], [], [], [], [], [], [])
    entities = 0
    for place, (row, lies) in enumerate(zip(rows, at, strict=True)):
        places = row.contrast
        if places is None or not places.entities:
            continue
        first, end = places.anchor
        found.anchors.append(list(lies[first : first + 1 if options.anchor == "first" else end]))
        for number, entity in enumerate(places.entities):
            if options.per_entity or not number:
                found.row.append(place)
            own = [[entity[0]], [entity[1] - 1]] if options.positives == "ends" else [[*range(*entity)]]
            apart = [[token] for token in beside(places, entity, options.neighbours)]
            for group in (*own, *apart):
                found.groups.append([lies[token] for token in group])
                found.anchor.append(len(found.anchors) - 1)
                found.term.append(len(found.row) - 1)
                found.entity.append(entities)
            found.positive.extend([True] * len(own) + [False] * len(apart))
            entities += 1
    return found


def contrast(
    queries: torch.Tensor, keys: torch.Tensor, rows: Sequence[Row], at: Sequence[Sequence[int]], options: Contrast
) -> torch.Tensor | None:
    """Return the sum of each row's terms (rows,); None where no row has an entity.

    Args:
        queries: states of all tokens of a pack, those that anchors are taken from: (tokens, heads, size).
        keys: the same for entities and their neighbours; of another number of heads, perhaps.
        rows: the pack's, with places.
        at: of each row, where its tokens lie in the pack.
        options: what is drawn together.
    """
    import torch
    from torch.nn.functional import logsigmoid

    found = _picked(rows, at, options)
    if not found.row:
        return None
    where = queries.device
    of_anchor, term, entity = (torch.tensor(x, device=where) for x in (found.anchor, found.term, found.entity))
    positive = torch.tensor(found.positive, device=where)
    anchors, groups = means(queries, found.anchors), means(keys, found.groups)
    cosines = (anchors[of_anchor] * groups).sum(-1) / options.temperature
    owner = torch.tensor(found.row, device=where)
    if options.form == "sigmoid":
        signed = torch.where(positive, cosines, -cosines)
        values = -logsigmoid(cosines.new_zeros(len(owner)).index_add(0, term, signed))
    else:
        values = _infonce(cosines, positive, entity, term, len(owner), 1 / options.temperature)
    return values.new_zeros(len(rows)).index_add(0, owner, values)


def means(states: torch.Tensor, groups: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the mean over heads, then over the tokens of each group, of length 1: (groups, size) in float32."""
    import torch
    from torch.nn.functional import normalize

    tokens = torch.tensor([token for group in groups for token in group], device=states.device)
    owner = torch.tensor([n for n, group in enumerate(groups) for _ in group], device=states.device)
    each = states[tokens].float().mean(1)
    sums = each.new_zeros(len(groups), each.shape[-1]).index_add(0, owner, each)
    return normalize(sums, dim=-1)  # the length of a sum is that of a mean after this


def _infonce(
    cosines: torch.Tensor, positive: torch.Tensor, entity: torch.Tensor, term: torch.Tensor, terms: int, most: float
) -> torch.Tensor:
    """Return each term's mean of -log(e^p / (e^p + sum of the entity's e^n)) over its positives p."""
    import torch

    likely = (cosines - most).exp()  # at most 1
    against = torch.zeros(int(entity.max()) + 1, device=cosines.device)
    against = against.index_add(0, entity, likely * ~positive)[entity]
    values = ((likely + against).log() - (cosines - most)) * positive
    sums = torch.zeros(terms, device=cosines.device).index_add(0, term, values)
    return sums / torch.zeros(terms, device=cosines.device).index_add(0, term, positive.float())


@contextmanager
def reading(model: Any, options: Contrast) -> Iterator[dict[str, torch.Tensor]]:
    """Note ``queries`` and ``keys`` (1, tokens, heads, size) of the layer while a decoder-only model runs.

    Raises:
        ConfigError: the model has no such layer, or its layers no projections by those names.
    """
    seen: dict[str, torch.Tensor] = {}

    def note(name: str, size: int | None) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            states = output[0] if isinstance(output, tuple) else output
            seen[name] = states.unflatten(-1, (-1, size or states.shape[-1]))

        return hook

    layer = _layer(model, options)
    if options.features == "hidden":
        hooks = [layer.register_forward_hook(note("both", None))]
    else:
        size = layer.self_attn.head_dim
        hooks = [
            layer.self_attn.q_proj.register_forward_hook(note("queries", size)),
            layer.self_attn.k_proj.register_forward_hook(note("keys", size)),
        ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _layer(model: Any, options: Contrast) -> Any:
    layers = model.get_decoder().layers
    number = layer_number(len(layers)) if options.layer == "auto" else options.layer
    if number > len(layers):
        raise ConfigError(
            f"the backbone has {len(layers)} layers, the contrast asks for number {number}",
            where="train.contrast.layer",
            fix="set it to auto",
        )
    layer = layers[number - 1]
    if options.features == "projections" and not all(hasattr(layer.self_attn, n) for n in ("q_proj", "k_proj")):
        raise ConfigError(
            f"backbones of the kind '{model.config.model_type}' have no q_proj and k_proj",
            where="train.contrast.features",
            fix="set it to hidden",
        )
    return layer


class Contrasting:
    """The contrast of trainings that share their forwards: a loss with it, and its mean over a step for each log."""

    def __init__(self, model: Any, options: Contrast) -> None:
        self._model = model
        self._options = options
        self._seen: dict[int, tuple[float, int]] = {}
        _layer(model, options)

    def added(self, loss: Loss[Row]) -> Loss[Row]:
        """Return ``loss`` with the contrast of each row, which knows its ``share``."""
        from fewtable.training.packing import laid

        def joint(rows: Sequence[Row]) -> tuple[torch.Tensor, float]:
            with reading(self._model, self._options) as seen:
                each, weight = loss(rows)
            queries, keys = (seen.get(name, seen.get("both")) for name in ("queries", "keys"))
            assert queries is not None and keys is not None
            found = contrast(queries[0], keys[0], rows, laid(rows).at, self._options)
            if found is None:
                return each, weight
            self._note(rows, found.detach())
            shares = found.new_tensor([row.contrast.share if row.contrast else 0.0 for row in rows])
            return each + self._options.weight * shares * found, weight

        return joint

    def _note(self, rows: Sequence[Row], found: torch.Tensor) -> None:
        for row, value in zip(rows, found.tolist(), strict=True):
            total, count = self._seen.get(row.part, (0.0, 0))
            self._seen[row.part] = total + value, count + terms(row, self._options)

    def value(self, part: int = 0) -> float:
        """Return the mean over a training's terms since the last call, of all processes; 0 where there were none."""
        found, terms = self._seen.pop(part, (0.0, 0))
        total, count = summed(found, float(terms))
        return total / count if count else 0.0
