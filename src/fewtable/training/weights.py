"""Weights of text models: loaded, adapted and merged without a trace, saved as safetensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fewtable.errors import ConfigError
from fewtable.files import read_json, write_json
from fewtable.training.parallel import leads, ranks, whole

if TYPE_CHECKING:
    from peft import LoraConfig

ADAPTER = "adapter_config.json"


def load_model(kind: Any, folder: Path, dtype: str, device: torch.device) -> Any:
    """Load a transformers model of an auto class ``kind`` onto ``device``."""
    from transformers import GenerationConfig

    # Eager attention is the faster one for short texts on a CPU (docs/decisions/training.md).
    attention = {"attn_implementation": "eager"} if device.type == "cpu" else {}
    model = kind.from_pretrained(folder, dtype=getattr(torch, dtype), use_safetensors=True, **attention)
    # Only the tokens of the checkpoint's own settings: BART-large's forbid an answer to repeat any three tokens.
    own = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id, decoder_start_token_id=own.decoder_start_token_id
    )
    head = model.get_output_embeddings()
    # transformers calls every T5 tied. A resize would tie v1.1 by that word and lose its head.
    model.config.tie_word_embeddings = head.weight is model.get_input_embeddings().weight
    # A bf16 product of frozen weights with a strided slice, as generation makes it, is 130 times slower on a CPU.
    head.register_forward_pre_hook(lambda module, inputs: (inputs[0].contiguous(),))
    return model.to(device).eval()


def has_adapter(folder: Path) -> bool:
    """Say whether a model folder holds an adapter, not whole weights."""
    return (folder / ADAPTER).exists()


@contextmanager
def adapted(base: Any, lora: Mapping[str, Any], seed: int, init: Path | None) -> Iterator[Any]:
    """Put trainable adapters on ``base``, new ones or those of ``init``; take them off at the end.

    Args:
        base: the backbone; its own weights are never changed.
        lora: r, alpha, dropout and targets.
        seed: of new adapters.
        init: model folder to go on from.

    Raises:
        ConfigError: ``init`` holds whole weights, or an adapter of another shape.
    """
    from peft import PeftModel, get_peft_model

    config = _config(lora, init)
    torch.manual_seed(seed)
    if init is None:
        model = get_peft_model(base, config)
    else:
        model = PeftModel.from_pretrained(base, init, is_trainable=True, config=config)
    try:
        yield model
    finally:
        model.unload()


def add_adapter(model: Any, name: str, lora: Mapping[str, Any], seed: int, init: Path | None) -> None:
    """Put one more trainable adapter on what ``adapted`` gave, under a name of its own; see there."""
    config = _config(lora, init)
    torch.manual_seed(seed)
    if init is None:
        model.add_adapter(name, config)
    else:
        model.load_adapter(init, name, is_trainable=True, peft_config=config)


def _config(lora: Mapping[str, Any], init: Path | None) -> LoraConfig:
    from peft import LoraConfig

    from fewtable.training.lora import with_our_layers

    if init is not None:
        check_init(init, lora)
        return with_our_layers(LoraConfig.from_pretrained(init))
    return with_our_layers(
        LoraConfig(
            r=lora["r"],
            lora_alpha=lora["alpha"],
            lora_dropout=lora["dropout"],
            target_modules=sorted(lora["targets"]),
            task_type="CAUSAL_LM",
        )
    )


def check_init(init: Path, lora: Mapping[str, Any]) -> None:
    """Raise ConfigError where ``init`` holds whole weights, or an adapter of another shape than ``lora``."""
    if not has_adapter(init):
        raise ConfigError(
            "an adapter cannot start from a run that trained all weights",
            where=str(init),
            fix="set train.lora alike in both methods",
        )
    config = read_json(init / ADAPTER)
    found = config["r"], config["lora_alpha"], sorted(config["target_modules"])
    wanted = lora["r"], lora["alpha"], sorted(lora["targets"])
    if found != wanted:
        raise ConfigError(
            f"the run to start from has an adapter (r, alpha, targets) {found}, this one asks for {wanted}",
            where=str(init),
            fix="set train.lora alike in both methods",
        )


@contextmanager
def wearing(base: Any, folder: Path) -> Iterator[Any]:
    """Give ``base`` with an adapter on it, to generate with; take it off at the end.

    It is not merged: bfloat16 weights would lose a small update, such as one of preference training, in rounding.
    """
    from peft import LoraConfig, PeftModel

    from fewtable.training.lora import with_our_layers

    model = PeftModel.from_pretrained(base, folder, config=with_our_layers(LoraConfig.from_pretrained(folder)))
    try:
        yield model.get_base_model().eval()
    finally:
        model.unload()


def merged(base: Any, folder: Path) -> Any:
    """Return ``base`` with an adapter added into its float32 weights, for good."""
    from peft import PeftModel

    return PeftModel.from_pretrained(base, folder).merge_and_unload()


def save_model(model: Any, folder: Path) -> None:
    """Write all weights and the config, those of several processes put together."""
    if ranks() == 1:
        model.save_pretrained(folder)
    else:
        named = model.state_dict(keep_vars=True)
        once = {id(tensor): whole(tensor.detach()) for tensor in named.values()}  # tied weights stay one
        if leads():
            model.save_pretrained(folder, state_dict={name: once[id(tensor)] for name, tensor in named.items()})
    _readable(folder)


def save_adapter(model: Any, folder: Path, backbone: str, name: str = "default") -> None:
    """Write an adapter and its config, which names the backbone and no folder of this machine."""
    model.save_pretrained(folder, selected_adapters=[name], save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    if (folder / name).is_dir():  # where peft puts all but the first
        for file in sorted((folder / name).iterdir()):
            file.replace(folder / file.name)
        (folder / name).rmdir()
    config = read_json(folder / ADAPTER)
    config["base_model_name_or_path"] = backbone
    config["target_modules"] = sorted(config["target_modules"])
    write_json(folder / ADAPTER, config)
    _readable(folder)


def _readable(folder: Path) -> None:
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)  # written with mode 0600, which others on a cluster cannot read
