"""Greedy answers of decoder-only models: what queries begin with is read once, and finished queries leave the batch.

Queries about one sentence share their first tokens where the sentence stands first, those about one type where the type
does. These are encoded once, the cache is repeated for each query, and the rest of the queries follows with positions
of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from fewtable.decoding.constrained import Allowed
from fewtable.decoding.generate import layout, pad

Ids = Sequence[int]
Place = tuple[int, int]
"""A prompt's group, and its number there."""
WORTH = 8
"""Fewest shared tokens that are encoded on their own: below, the extra forward costs more than it saves."""


def common_prefix(prompts: Sequence[Ids]) -> int:
    """Return how many first tokens all prompts share, so that each keeps one of its own at least."""
    low, high = min(map(tuple, prompts)), max(map(tuple, prompts))
    most = min(map(len, prompts)) - 1
    return next((i for i in range(most) if low[i] != high[i]), most)


def answer(
    model: Any,
    groups: Sequence[Sequence[Ids]],
    size: int,
    limit: int,
    stop: int,
    empty: Ids = (),
    allowed: Callable[[int], Sequence[Allowed]] | None = None,
) -> list[list[list[int]]]:
    """Return the greedy answers of a decoder-only model, token ids without the end token.

    Args:
        model: a transformers model with a cache of keys and values.
        groups: the prompts of each sentence.
        size: prompts a forward.
        limit: most tokens of an answer.
        stop: id of the token that ends an answer.
        empty: tokens of an answer that is complete by itself: the end token after it is not waited for.
        allowed: number of a group -> what constrains the answer to each of its prompts, made when they are answered.
    """
    found: list[list[list[int]]] = [[[] for _ in group] for group in groups]
    for batch in batches(groups, size):
        rows = [[groups[g][n] for g, n in part] for part in batch]
        places = [place for part in batch for place in part]
        kept = [allowed(g)[n] for g, n in places] if allowed else []
        answers = _Batch(model, rows, limit, stop, tuple(empty), kept).run()
        for (g, n), written in zip(places, answers, strict=True):
            found[g][n] = written
    return found


def batches(groups: Sequence[Sequence[Ids]], size: int) -> Iterator[list[list[Place]]]:
    """Yield batches of at most ``size`` prompts, longest first; the parts of a batch are prompts that begin alike."""
    parts = [part[i : i + size] for part in _alike(groups) for i in range(0, len(part), size)]
    longest = [max(len(groups[g][n]) for g, n in part) for part in parts]
    batch: list[list[Place]] = []
    for index in (i for chunk in layout(longest, len(parts) or 1) for i in chunk):
        if sum(map(len, batch)) + len(parts[index]) > size:
            yield batch
            batch = []
        batch.append(parts[index])
    if batch:
        yield batch


def _alike(groups: Sequence[Sequence[Ids]]) -> list[list[Place]]:
    """Return prompts in families: sorted neighbours that share half of their tokens at least, from the first on."""
    named = sorted((tuple(prompt), (g, n)) for g, group in enumerate(groups) for n, prompt in enumerate(group))
    families: list[list[Place]] = []
    before: tuple[int, ...] = ()
    for prompt, place in named:
        if families and 2 * common_prefix([before, prompt]) >= min(len(before), len(prompt)):
            families[-1].append(place)
        else:
            families.append([place])
        before = prompt
    return families


class _Batch:
    """One batch of prompts, from their first token to their last answer."""

    def __init__(
        self,
        model: Any,
        groups: Sequence[Sequence[Ids]],
        limit: int,
        stop: int,
        empty: tuple[int, ...],
        allowed: Sequence[Allowed],
    ) -> None:
        self._model = model
        self._groups = groups
        self._limit = limit
        self._stop = stop
        self._empty = list(empty)
        self._allowed = allowed

    @torch.inference_mode()
    def run(self) -> list[list[int]]:
        """Return the answers in the order of the prompts."""
        cache, mask, scores = self._read()
        device = self._model.device
        answers: list[list[int]] = [[] for _ in scores]
        going = list(range(len(scores)))  # prompts that are not done, in the order of the cache
        while True:
            for row, token in zip(going, self._best(scores, [answers[row] for row in going], going), strict=True):
                answers[row].append(token)
            kept = [place for place, row in enumerate(going) if not self._done(answers[row])]
            if not kept:
                break
            if len(kept) < len(going):
                chosen = torch.tensor(kept, device=device)
                cache.batch_select_indices(chosen)
                mask, going = mask[chosen], [going[place] for place in kept]
            last = torch.tensor([[answers[row][-1]] for row in going], device=device)
            mask = torch.cat([mask, mask.new_ones(len(going), 1)], 1)
            scores = self._step(last, mask, cache)
        return [a[:-1] if a[-1] == self._stop else a for a in answers]

    def _done(self, answer: list[int]) -> bool:
        return answer[-1] == self._stop or len(answer) == self._limit or answer == self._empty

    def _best(self, scores: torch.Tensor, answers: Sequence[Ids], going: Sequence[int]) -> list[int]:
        """Return the most probable next tokens of the prompts that are not done, among those allowed."""
        if not self._allowed:
            best: list[int] = scores.argmax(-1).tolist()
            return best
        offered = [self._allowed[row](answer) for row, answer in zip(going, answers, strict=True)]
        tokens = np.empty((len(offered), max(map(len, offered))), np.int64)
        for line, own in zip(tokens, offered, strict=True):
            line[: len(own)], line[len(own) :] = own, own[0]  # what is offered twice wins no more often
        choice = torch.from_numpy(tokens).to(scores.device)
        best = choice.gather(1, scores.gather(1, choice).argmax(1, keepdim=True))[:, 0].tolist()
        return best

    def _read(self) -> tuple[DynamicCache, torch.Tensor, torch.Tensor]:
        """Return cache, mask and the scores of the answers' first tokens."""
        model = self._model
        cache = DynamicCache(config=model.config)
        prompts = [prompt for group in self._groups for prompt in group]
        shared = [common_prefix(group) if len(group) > 1 else 0 for group in self._groups]
        cuts = [n for n, group in zip(shared, self._groups, strict=True) for _ in group]
        # A sliding window would count the padding between a prefix and what follows it.
        window = getattr(model.config, "sliding_window", None)
        if max(shared) < WORTH or (window and max(map(len, prompts)) + self._limit > window):
            cuts = [0] * len(prompts)
            before = torch.zeros(len(prompts), 0, dtype=torch.long, device=model.device)
        else:
            heads = [group[0][:n] for n, group in zip(shared, self._groups, strict=True)]
            ids, mask = (t.to(model.device) for t in pad(heads, self._stop, left=True))
            model.get_decoder()(
                input_ids=ids, attention_mask=mask, position_ids=_positions(mask), past_key_values=cache, use_cache=True
            )
            owner = torch.tensor([g for g, group in enumerate(self._groups) for _ in group], device=model.device)
            cache.batch_select_indices(owner)
            before = mask[owner]
        tails = [prompt[n:] for prompt, n in zip(prompts, cuts, strict=True)]
        ids, mask = (t.to(model.device) for t in pad(tails, self._stop, left=True))
        mask = torch.cat([before, mask], 1)
        return cache, mask, self._step(ids, mask, cache)

    def _step(self, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """Read ``ids`` (rows, new), the last columns of ``mask``; return scores of what is next (rows, vocabulary)."""
        positions = _positions(mask)[:, -ids.shape[1] :]
        out = self._model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1
        )
        scores: torch.Tensor = out.logits[:, -1]
        return scores


def _positions(mask: torch.Tensor) -> torch.Tensor:
    return (mask.cumsum(1) - 1).clamp(min=0)
