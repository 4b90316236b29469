"""The typed form of config/backbones/NAME.yaml. Imports nothing heavy."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from fewtable.specs import Engine, Spec
from fewtable.teachers.spec import EndpointSpec

BackboneKind = Literal["none", "encoder", "causal", "seq2seq", "endpoint"]


class GgufSource(Spec):
    """A GGUF file inside an installed package, to be dequantised."""

    package: str
    path: str
    sha256: str
    tokenizer: str | None = None


class BackboneSpec(Spec):
    """config/backbones/NAME.yaml: a pretrained checkpoint and what a job needs to run it."""

    title: str
    kind: BackboneKind
    licence: str | None = None
    hub: str | None = None
    revision: str | None = None
    package: str | None = None
    """Import name of a package that carries the weights."""
    path: str | None = None
    """The weights' folder, inside ``package`` or on disk."""
    gguf: GgufSource | None = None
    random: dict[str, Any] | None = None
    """A small random model: transformers config class options, for tests."""
    endpoint: EndpointSpec | None = None
    """A model behind OpenAI's protocol; the method says how long its answers may be."""
    unavailable: str | None = None
    """Why its weights can't be had as they are; cells on it are left out."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    engine: Engine = "transformers"
    """What a decoder-only model generates with."""
    gpu: int = 0
    """GPUs that training and decoding ask for."""
    train_mem_mb: int = 4000
    decode_mem_mb: int = 4000
    minutes: int = 60
    """Time limit of the first attempt of a training or decoding job."""

    @model_validator(mode="after")
    def _asked(self) -> BackboneSpec:
        if (self.kind == "endpoint") == (self.endpoint is None):
            raise ValueError("a backbone has 'endpoint' when its kind is endpoint, and only then")
        return self
