"""Pretrained weights as a folder in transformers' layout: from the hub, a package, a GGUF file, or random.

The folder is a file target of its own, so compute nodes need no internet and all jobs share one copy.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fewtable.backbone_spec import BackboneSpec, GgufSource
from fewtable.errors import ConfigError, DataError
from fewtable.files import read_json, sha256_file, write_json

MARKER = "backbone.json"
"""Written last: says that the folder is complete, and where it came from."""

HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "tokenizer*")


def materialise(name: str, spec: BackboneSpec, target: Path) -> None:
    """Put the backbone's weights and tokenizer under ``target``, complete or not at all.

    Raises:
        ConfigError: the spec names no source, or a package that is not installed.
        DataError: a file is not what it should be, the hub can't be reached, or the spec says that it has no weights.
    """
    if spec.unavailable:
        raise DataError(
            f"the weights of backbone '{name}' can't be had: {spec.unavailable}",
            where=f"config/backbones/{name}.yaml:unavailable",
        )
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    _source(name, spec)(temporary)
    write_json(temporary / MARKER, {"name": name, "spec": spec.model_dump(mode="json")})
    for file in temporary.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(0o644)  # weights are saved with mode 0600, which others on a cluster cannot read
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)


def read_spec(folder: Path) -> BackboneSpec:
    """Return the spec of the backbone that was put under ``folder``."""
    return BackboneSpec.model_validate(read_json(folder / MARKER)["spec"])


def _source(name: str, spec: BackboneSpec) -> Callable[[Path], None]:
    if spec.kind in ("none", "endpoint"):
        return lambda folder: None
    if spec.gguf is not None:
        gguf = spec.gguf
        return lambda folder: _from_gguf(gguf, folder)
    if spec.random is not None:
        options = spec.random
        return lambda folder: _from_random(options, folder)
    if spec.hub is not None:
        return lambda folder: _from_hub(spec, folder)
    if spec.path is not None:
        source = package_folder(spec.package) / spec.path if spec.package else Path(spec.path).expanduser()
        return lambda folder: _from_folder(source, folder)
    raise ConfigError(
        "the backbone names no source",
        where=f"config/backbones/{name}.yaml",
        fix="give hub and revision, package and path, path, gguf or random",
    )


def package_folder(package: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            f"package '{package}' is not installed", fix=f"pip install --no-deps {package.replace('_', '-')}"
        )
    return Path(found.submodule_search_locations[0])


def _from_folder(source: Path, folder: Path) -> None:
    if not (source / "config.json").exists():
        raise DataError("no config.json: not a folder of weights in transformers' layout", where=str(source))
    if not list(source.glob("*.safetensors")):
        raise DataError("no .safetensors file; pickled weights are not loaded", where=str(source))
    for file in sorted(source.iterdir()):
        if file.is_file():
            shutil.copyfile(file, folder / file.name)


def _from_hub(spec: BackboneSpec, folder: Path) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if spec.revision is None:
        raise ConfigError(f"hub backbone '{spec.hub}' has no revision", fix="pin the commit under 'revision'")
    try:
        source = snapshot_download(spec.hub or "", revision=spec.revision, allow_patterns=list(HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise DataError(
            f"cannot get '{spec.hub}' at {spec.revision} from the hub: {type(error).__name__}",
            fix="run where the hub can be reached, or set HF_HOME to a cache that holds it",
        ) from None
    if not list(Path(source).glob("*.safetensors")):
        raise DataError(f"'{spec.hub}' at {spec.revision} has no .safetensors file", fix="pin a revision that has one")
    for file in sorted(Path(source).iterdir()):
        if file.is_file():
            (folder / file.name).symlink_to(file.resolve())


def _from_gguf(source: GgufSource, folder: Path) -> None:
    """Dequantise a GGUF Llama to bf16 safetensors (a file of 4-bit weights has no more precision than that)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    path = package_folder(source.package) / source.path
    if not path.exists():
        raise DataError("file not found", where=str(path))
    if (found := sha256_file(path)) != source.sha256:
        raise DataError(f"sha256 is {found}, expected {source.sha256}", where=str(path), fix="reinstall the package")
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    loaded = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    # A model that was read from GGUF refuses to be trained or saved, so its tensors move to a plain one.
    options = {k: v for k, v in loaded.config.to_dict().items() if k not in ("quantization_config", "dtype")}
    plain = LlamaForCausalLM(LlamaConfig(**options))
    plain.load_state_dict(loaded.state_dict())
    plain.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _from_random(options: dict[str, Any], folder: Path) -> None:
    """Write a small model with seeded random weights and a byte- or character-level tokenizer."""
    import torch
    import transformers

    from fewtable.random_tokenizers import byte_tokenizer, character_tokenizer

    rest = dict(options)
    architecture = rest.pop("architecture")
    classes = {
        "bart": "BartForConditionalGeneration",
        "bert": "BertModel",
        "llama": "LlamaForCausalLM",
        "t5": "T5ForConditionalGeneration",
    }
    if architecture not in classes:
        raise ConfigError(f"no random backbone of architecture '{architecture}'", fix=f"one of {sorted(classes)}")
    tokenizer = character_tokenizer() if architecture == "bert" else byte_tokenizer(start=architecture == "bart")
    names = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    if architecture == "t5":
        names["decoder_start_token_id"] = tokenizer.pad_token_id
    elif architecture == "bart":  # as facebook/bart-large has it: the decoder starts with </s>, then <s>
        names["bos_token_id"] = tokenizer.bos_token_id
        names["decoder_start_token_id"] = tokenizer.eos_token_id
    torch.manual_seed(rest.pop("seed", 0))
    model_class = getattr(transformers, classes[architecture])
    model_class(model_class.config_class(vocab_size=len(tokenizer), **names, **rest)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
