"""BART's decoder over trees of tokens: every token is read once, whatever number of texts begin with it.

transformers' own decoder takes no positions from outside and one past for all rows, so this runs the modules of its
layers. The keys and values of tokens that others may follow are kept in slots; a branch names the slots of its
past.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import linear, scaled_dot_product_attention

from fewtable.decoding.generate import pad
from fewtable.decoding.template import Branch
from fewtable.errors import ConfigError

TOKENS = 4096
"""Most new tokens of a forward, padding among them."""
KEYS = 65536
"""Most tokens that the branches of a forward attend to, their own or their sources', padding among them: 0.5 GB of
keys and values of a layer of BART-large in float32. With TOKENS it bounds a forward's memory."""
LOGITS = 2048
"""Vocabulary entries whose logits are computed at once: they stay in the cache (half as fast again on a CPU)."""


class SharedPrefix:
    """The decoder of a BART about some sources.

    Args:
        model: a BartForConditionalGeneration.
        sources: what the encoder reads, token ids.
        capacity: number of slots.

    Raises:
        ConfigError: the model is no BART.
    """

    def __init__(self, model: Any, sources: Sequence[Sequence[int]], capacity: int) -> None:
        check(model.config)
        self._model = model
        self._decoder = model.get_decoder()
        self._heads = int(model.config.decoder_attention_heads)
        ids, mask = (t.to(model.device) for t in pad(sources, model.config.pad_token_id, left=False))
        states = model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        self._source = [(b.encoder_attn.k_proj(states), b.encoder_attn.v_proj(states)) for b in self._decoder.layers]
        self._source_mask = mask.bool()
        size = capacity + TOKENS, states.shape[-1]
        self._kept = [(states.new_zeros(size), states.new_zeros(size)) for _ in self._decoder.layers]
        self._capacity = capacity

    def extend(self, branches: Sequence[Branch]) -> NDArray[np.float64]:
        """Read the branches; return the log-probabilities that they want, in nats, one branch after the other.

        Slots of a branch's past must have been read in an earlier call.
        """
        return np.concatenate([self._forward(part) for part in _parts(branches, self._source_mask.shape[1])])

    def _forward(self, branches: Sequence[Branch]) -> NDArray[np.float64]:
        plan = _Plan(branches, self._capacity, self._model.device)
        decoder: Any = self._decoder
        x = (
            decoder.embed_tokens(plan.tokens)
            + decoder.embed_positions(plan.tokens[None], position_ids=plan.positions)[0]
        )
        x = decoder.layernorm_embedding(x)
        source_mask = self._source_mask[plan.sources][:, None, None]
        for block, kept, source in zip(decoder.layers, self._kept, self._source, strict=True):
            own = block.self_attn
            for cache, projection in zip(kept, (own.k_proj, own.v_proj), strict=True):
                cache[plan.slots] = projection(x)
            read = self._attend(own.q_proj(x), [cache[plan.keys] for cache in kept], plan.mask, plan)
            x = block.self_attn_layer_norm(x + own.out_proj(read))
            cross = block.encoder_attn
            read = self._attend(cross.q_proj(x), [states[plan.sources] for states in source], source_mask, plan)
            x = block.encoder_attn_layer_norm(x + cross.out_proj(read))
            x = block.final_layer_norm(x + block.fc2(block.activation_fn(block.fc1(x))))
        return self._log_probabilities(x, plan)

    def _attend(
        self, query: torch.Tensor, past: Sequence[torch.Tensor], mask: torch.Tensor, plan: _Plan
    ) -> torch.Tensor:
        q, k, v = (t.view(*t.shape[:-1], self._heads, -1).transpose(1, 2) for t in (query[plan.place], *past))
        found: torch.Tensor = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return found.transpose(1, 2).flatten(2)[plan.real]

    def _log_probabilities(self, states: torch.Tensor, plan: _Plan) -> NDArray[np.float64]:
        head = self._model.get_output_embeddings().weight
        bias = self._model.final_logits_bias[0]
        total = states.new_full((len(states),), -torch.inf, dtype=torch.float32)
        chosen = total.new_empty(len(plan.wanted))
        for first in range(0, len(head), LOGITS):
            tile = slice(first, first + LOGITS)
            logits = linear(states, head[tile], bias[tile]).float()
            total = torch.logaddexp(total, logits.logsumexp(-1))
            asked = slice(*np.searchsorted(plan.wanted, (first, first + LOGITS)).tolist())
            chosen[asked] = logits[plan.after[asked], plan.tokens_wanted[asked] - first]
        found = torch.empty_like(chosen)
        # Rounding may leave a log-probability a hair above 0, and the search takes 0 for the most that one can be.
        found[plan.order] = (chosen - total[plan.after]).clamp(max=0)
        values: NDArray[np.float64] = found.double().cpu().numpy()
        return values


def check(config: Any) -> None:
    """Raise ConfigError unless ``config`` is that of a BART."""
    if config.model_type != "bart":
        raise ConfigError(
            f"statements are scored by BART's decoder, not by that of '{config.model_type}'",
            where="backbone",
            fix="take a BART, such as bart-large",
        )


def _parts(branches: Sequence[Branch], source: int) -> Iterator[list[Branch]]:
    """Cut the branches into forwards; ``source`` is the length of the sources."""
    part: list[Branch] = []
    new, keys = 0, source
    for branch in branches:
        new = max(new, len(branch.tokens))
        keys = max(keys, len(branch.past) + len(branch.tokens))
        rows = len(part) + 1
        if part and (rows * new > TOKENS or rows * keys > KEYS):
            yield part
            part = []
            new, keys = len(branch.tokens), max(source, len(branch.past) + len(branch.tokens))
        part.append(branch)
    yield part


class _Plan:
    """Where the tokens of a forward stand: flat for all layers, in rows of a branch each for attention."""

    def __init__(self, branches: Sequence[Branch], capacity: int, device: torch.device) -> None:
        new = np.array([len(b.tokens) for b in branches])
        past = np.array([len(b.past) for b in branches])
        offsets = np.cumsum(new) - new
        steps = np.arange(new.max())
        real = steps < new[:, None]
        slots = np.array([slot for b in branches for slot in b.slots])
        slots = np.where(slots < 0, capacity + np.arange(len(slots)), slots)  # those of no later use lie behind
        place = np.where(real, offsets[:, None] + steps, 0)
        keys = np.zeros((len(branches), int((past + new).max())), dtype=np.int64)
        for row, branch in enumerate(branches):
            first = len(branch.past)
            keys[row, :first] = branch.past
            keys[row, first : first + new[row]] = slots[offsets[row] : offsets[row] + new[row]]
        mask = np.arange(keys.shape[1]) <= (past[:, None] + steps)[:, :, None]

        def put(values: Any) -> torch.Tensor:
            return torch.as_tensor(values, device=device)

        self.tokens = put([token for b in branches for token in b.tokens])
        self.positions = put((past[:, None] + steps)[real])
        self.sources = put([b.source for b in branches])
        self.slots = put(slots)
        self.place = put(place)
        """(branch, step) -> flat number."""
        self.real = put(real)
        self.keys = put(keys)
        """(branch, key) -> slot."""
        self.mask = put(mask[:, None])
        nodes = np.concatenate([np.asarray(b.nodes) + first for b, first in zip(branches, offsets, strict=True)])
        wanted = np.array([token for b in branches for token in b.wanted])
        order = np.argsort(wanted, kind="stable")
        self.wanted: NDArray[np.int64] = wanted[order]
        """Tokens whose log-probabilities are asked, rising."""
        self.tokens_wanted = put(self.wanted)
        self.after = put(nodes[order])
        """Flat number of the token after which each stands."""
        self.order = put(order)
