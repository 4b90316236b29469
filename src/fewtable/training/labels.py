"""Label tokens: added tokens that name types, with rows of their own in a model's embeddings (methods/03).

Where all weights are trained the matrices grow and are saved with the rest. Under adapters the backbone's matrices
stay as they are: the new rows stand beside them, and they alone are trained and saved.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding, linear

from fewtable.errors import ConfigError
from fewtable.files import read_json, write_json

LABELS = "labels.json"
ROWS = "labels.safetensors"

Rows = Mapping[str, torch.Tensor]
"""``input`` (labels, width) and, where the head has weights of its own, ``output``."""


def read_labels(folder: Path | None) -> tuple[str, ...]:
    """Return the label tokens of a model folder, in the order of their ids; none of a backbone."""
    if folder is None or not (folder / LABELS).exists():
        return ()
    return tuple(read_json(folder / LABELS)["labels"])


def write_labels(folder: Path, labels: Sequence[str], config: Any) -> None:
    """Write the label tokens of a model, and the standard deviation that their rows began with."""
    write_json(folder / LABELS, {"labels": list(labels), "sd": deviation(config)})


def deviation(config: Any) -> float:
    """Return the standard deviation of an embedding row at the start, as the model's own initialisation has it."""
    for key in ("initializer_factor", "initializer_range", "init_std"):  # T5, Llama, BART
        if (found := getattr(config, key, None)) is not None:
            return float(found)
    raise ConfigError("the backbone's config says no standard deviation of its embeddings", fix="use natural labels")


def with_labels(tokenizer: Any, labels: Sequence[str]) -> Any:
    """Return a copy of ``tokenizer`` that knows ``labels`` as one token each, after all others.

    They are no special tokens, which decoding would leave out.

    Raises:
        ConfigError: the tokenizer knows one of them already.
    """
    from tokenizers import AddedToken

    made = copy.deepcopy(tokenizer)
    if known := sorted(set(labels) & set(tokenizer.get_vocab())):
        raise ConfigError(f"the tokenizer has a token '{known[0]}' of its own", fix="use natural labels")
    made.add_tokens([AddedToken(label, normalized=False) for label in labels], special_tokens=False)
    assert made.convert_tokens_to_ids(list(labels)) == list(range(len(tokenizer), len(tokenizer) + len(labels)))
    return made


def grow(model: Any, first: int, size: int, seed: int) -> None:
    """Give a model embeddings for ``size`` tokens and random rows from id ``first`` on, in head and input alike.

    Args:
        model: all of its weights are its own to change.
        first: id of the first token that has no row yet; a row that pads the backbone's matrix is no row.
        size: number of tokens.
        seed: of the rows.
    """
    torch.manual_seed(seed)
    if size > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(size, pad_to_multiple_of=64, mean_resizing=False)
    generator = torch.Generator().manual_seed(seed)
    for matrix in _matrices(model).values():
        rows = torch.randn(size - first, matrix.shape[1], generator=generator) * deviation(model.config)
        matrix.data[first:size] = rows.to(matrix)


def put_rows(model: Any, first: int, rows: Rows) -> None:
    """Write rows that were trained beside a backbone into the matrices of a model that has grown."""
    for name, matrix in _matrices(model).items():
        # A head that is its own here was so there too: both are of one backbone.
        matrix.data[first : first + len(rows[name])] = rows[name].to(matrix)


def _matrices(model: Any) -> dict[str, nn.Parameter]:
    found = {"input": model.get_input_embeddings().weight, "output": model.get_output_embeddings().weight}
    return found if found["output"] is not found["input"] else {"input": found["input"]}


class _Input(nn.Module):
    """The backbone's embeddings; ids from ``first`` on have rows of their own."""

    def __init__(self, inner: nn.Module, rows: nn.Parameter, first: int) -> None:
        super().__init__()
        self.inner, self.rows, self.first = inner, rows, first

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        new = ids >= self.first
        old = self.inner(ids.masked_fill(new, 0))
        own = embedding((ids - self.first).clamp(min=0), self.rows).to(old.dtype)
        return torch.where(new.unsqueeze(-1), own, old)


class _Output(nn.Module):
    """The backbone's head without the rows that pad it, and the logits of the new tokens after it."""

    def __init__(self, inner: nn.Module, rows: nn.Parameter, first: int) -> None:
        super().__init__()
        self.inner, self.rows, self.first = inner, rows, first

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        old = self.inner(hidden)[..., : self.first]
        return torch.cat([old, linear(hidden.contiguous(), self.rows.to(hidden.dtype))], dim=-1)


@contextmanager
def widened(base: Any, first: int, count: int, seed: int, init: Path | None) -> Iterator[list[nn.Parameter]]:
    """Put the rows of ``count`` label tokens beside a backbone's embeddings; take them away at the end.

    Args:
        base: the backbone; its own weights are never changed.
        first: id of the first label token.
        count: number of label tokens; with none nothing is done.
        seed: of the rows that are new.
        init: model folder whose rows come first.

    Yields:
        The rows, as parameters in fp32 that are not yet trained.
    """
    if not count:
        yield []
        return
    known = read_rows(init) if init is not None and read_labels(init) else {}
    generator = torch.Generator().manual_seed(seed)
    rows = {}
    for name, matrix in _matrices(base).items():
        old = known.get(name, torch.empty(0, matrix.shape[1]))
        new = torch.randn(count - len(old), matrix.shape[1], generator=generator) * deviation(base.config)
        rows[name] = nn.Parameter(torch.cat([old, new]).to(matrix.device), requires_grad=False)
    words, head = base.get_input_embeddings(), base.get_output_embeddings()
    base.set_input_embeddings(_Input(words, rows["input"], first))
    base.set_output_embeddings(_Output(head, rows.get("output", rows["input"]), first))
    try:
        yield list(rows.values())
    finally:
        base.set_input_embeddings(words)
        base.set_output_embeddings(head)


def read_rows(folder: Path) -> Rows:
    """Read the rows of a model that was trained with adapters."""
    from safetensors.torch import load_file

    found: Rows = load_file(folder / ROWS)
    return found


def save_rows(base: Any, folder: Path) -> None:
    """Write the rows that stand beside a backbone's embeddings."""
    from safetensors.torch import save_file

    rows, head = base.get_input_embeddings().rows, base.get_output_embeddings().rows
    found = {"input": rows} if head is rows else {"input": rows, "output": head}
    save_file({name: value.detach().cpu().contiguous() for name, value in found.items()}, folder / ROWS)
    (folder / ROWS).chmod(0o644)
