"""Rows of many lengths in one forward without padding: what they begin with alike is read once, the rest of each alone.

Rows make a tree: a branch is a run of tokens, and what follows it are the branches that rows divide into. Branches lie
end to end. Attention is computed a branch at a time, over the branches that lead to it and its own tokens, all else
for all tokens at once. No token sees another row, for there is no mask that could let it through, and no arithmetic
goes to padding.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from fewtable.errors import ConfigError

if TYPE_CHECKING:
    from fewtable.training.sft import Row

S = TypeVar("S", bound=Sized)
NAME = "fewtable-rows"
ATTENTION = {"full_attention", "sliding_attention"}
"""Kinds of layers in which a row can be kept to itself."""
WORTH = 8
"""Fewest tokens of a branch that rows share: below, its own attention costs more than it saves."""


def packs(rows: Sequence[S], size: int, shares: int = 1) -> list[list[S]]:
    """Return the rows of a step in as few packs as fit, evenly filled (longest rows first, each to the emptiest pack).

    Args:
        rows: at least one.
        size: a pack holds at most the tokens that ``size`` rows, padded to the longest, would.
        shares: the number of packs is a multiple of it; a pack is empty only where there are fewer rows.
    """
    longest_first = sorted(rows, key=len, reverse=True)
    limit = size * len(longest_first[0])
    count = math.ceil(sum(map(len, rows)) / limit / shares) * shares
    while True:
        found: list[list[S]] = [[] for _ in range(count)]
        filled = [(0, number) for number in range(count)]
        for row in longest_first:
            tokens, number = filled[0]
            found[number].append(row)
            heapq.heapreplace(filled, (tokens + len(row), number))
        if max(filled)[0] <= limit:
            return found
        count += shares


@dataclass(frozen=True, slots=True)
class Branch:
    """Tokens in a row of a pack, and the branches that lead to them, as slices of the pack."""

    own: slice
    before: tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Pack:
    """Rows in one forward."""

    ids: torch.Tensor
    """(1, tokens)"""
    positions: torch.Tensor
    """(1, tokens): each row's own, from 0."""
    branches: tuple[Branch, ...]
    at: tuple[tuple[int, ...], ...]
    """Of each row, where its tokens lie in the pack."""
    parts: dict[int, slice]
    """Of each training that shares the forward, where its rows lie."""


def laid(rows: Sequence[Row]) -> Pack:
    """Lay rows end to end; the tokens that rows begin with alike, before any that is learned, lie there once.

    Rows of several trainings lie apart and share nothing.
    """
    order = sorted(range(len(rows)), key=lambda number: (rows[number].part, rows[number].ids))
    asked = [next((n for n, yes in enumerate(row.learned) if yes), len(row)) for row in rows]
    alike = [
        _alike(rows[a].ids, rows[b].ids, min(asked[a], asked[b])) if rows[a].part == rows[b].part else 0
        for a, b in pairwise(order)
    ]
    ids: list[int] = []
    positions: list[int] = []
    branches: list[Branch] = []
    at: list[tuple[int, ...]] = [()] * len(rows)

    def put(row: Row, start: int, end: int, before: tuple[slice, ...]) -> slice:
        own = slice(len(ids), len(ids) + end - start)
        ids.extend(row.ids[start:end])
        positions.extend(range(start, end))
        if end > start:
            branches.append(Branch(own, before))
        return own

    def grow(low: int, high: int, depth: int, before: tuple[slice, ...]) -> None:
        """Lay the tokens from ``depth`` on of the rows ``order[low:high]``, which are alike up to there."""
        cuts = [n + 1 for n in range(low, high - 1) if alike[n] < depth + WORTH]
        for first, last in zip([low, *cuts], [*cuts, high], strict=True):
            row = rows[order[first]]
            if last - first == 1:
                own = put(row, depth, len(row), before)
                at[order[first]] = tuple(place for part in (*before, own) for place in range(part.start, part.stop))
            else:
                common = min(alike[first : last - 1])
                grow(first, last, common, (*before, put(row, depth, common, before)))

    grow(0, len(rows), 0, ())
    parts: dict[int, slice] = {}
    for row, places in zip(rows, at, strict=True):
        known = parts.get(row.part, slice(places[0], 0))
        parts[row.part] = slice(min(known.start, places[0]), max(known.stop, places[-1] + 1))
    return Pack(torch.tensor([ids]), torch.tensor([positions]), tuple(branches), tuple(at), parts)


def _alike(left: Sequence[int], right: Sequence[int], most: int) -> int:
    """Return how many first tokens two rows share, at most ``most``."""
    pairs = enumerate(zip(left[:most], right[:most], strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(most, len(left), len(right)))


@contextmanager
def apart(model: Any) -> Iterator[None]:
    """Let a decoder-only model read rows as they are ``laid``; it must be told their ``branches``.

    Raises:
        ConfigError: the model has layers that would carry one row into the next.
    """
    kinds = set(getattr(model.config, "layer_types", None) or ()) - ATTENTION
    if kinds or model._is_stateful or not model._supports_attention_backend:
        raise ConfigError(
            f"backbones of the kind '{model.config.model_type}' cannot be trained on packed rows",
            fix="use a causal backbone whose layers all attend",
        )
    AttentionInterface.register(NAME, _attention)
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    branches: Sequence[Branch],
    sliding_window: int | None = None,
    s_aux: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each row; tensors are (1, heads, tokens, size), the result (1, tokens, heads, size)."""
    if s_aux is not None or options.get("softcap") is not None:
        raise ConfigError("backbones with attention sinks or capped scores cannot be trained on packed rows")
    attend = _plainly if query.device.type == "cpu" else _fused
    answers = []
    for branch in branches:
        path = (*branch.before, branch.own)
        keys, values = (
            torch.cat([t[:, :, s] for s in path], 2) if branch.before else t[:, :, path[0]] for t in (key, value)
        )
        answers.append(attend(module, query[:, :, branch.own], keys, values, sliding_window, options))
    return torch.cat(answers, 1), None


def _fused(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    window: int | None,
    options: Any,
) -> torch.Tensor:
    new, known = query.shape[2], key.shape[2]
    plain = new == known and (window is None or known <= window)
    near = None if plain else ~_hidden(new, known, window, query.device)
    found: torch.Tensor = sdpa_attention_forward(module, query, key, value, near, **options)[0]
    return found


def _plainly(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    window: int | None,
    options: Any,
) -> torch.Tensor:
    """Attend step by step: on a CPU torch's fused attention takes twice as long for texts of some hundred tokens."""
    groups = query.shape[1] // key.shape[1]
    key, value = (t[0].repeat_interleave(groups, 0) if groups > 1 else t[0] for t in (key, value))
    scores = query[0] @ key.transpose(1, 2) * options["scaling"]
    hidden = _hidden(query.shape[2], key.shape[1], window, query.device)
    shares = scores.masked_fill(hidden, -torch.inf).softmax(-1, dtype=torch.float32).to(value.dtype)
    shares = torch.nn.functional.dropout(shares, options.get("dropout", 0.0), module.training)
    return (shares @ value).transpose(0, 1)[None]


@lru_cache(maxsize=256)
def _hidden(new: int, known: int, window: int | None, device: torch.device) -> torch.Tensor:
    """Return which of ``known`` tokens the last ``new`` ones do not see (new, known): later ones, and those too far."""
    seen = torch.ones(new, known, dtype=torch.bool, device=device).tril(known - new)
    return ~(seen if window is None else seen.triu(known - new + 1 - window))
