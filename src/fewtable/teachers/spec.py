"""The typed form of config/teachers/NAME.yaml, and what of it can change an annotation. Imports nothing heavy."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from fewtable.specs import Spec

PromptKind = Literal["type", "definition"]


class PriceSpec(Spec):
    """Dollars per million tokens."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]


class EndpointSpec(Spec):
    """A chat-completions endpoint that speaks OpenAI's protocol."""

    url: str
    """Its address up to and with ``/v1``."""
    model: str
    key: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] | None = None
    """The environment variable that holds the API key; None where the endpoint asks for none."""
    max_tokens: Annotated[int, Field(ge=1)] = 1024
    """Most tokens of an answer; a longer one is cut, and counted as such."""
    limit_as: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the endpoint calls that limit."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Other keys of the request's body, such as ``seed``; they can change answers."""
    price: PriceSpec | None = None
    budget: Annotated[float, Field(gt=0)] | None = None
    """Dollars that one journal never passes: a teacher on one corpus, or a backbone in one run's job. Others that use
    the same key are not counted. Needs a price."""
    in_flight: Annotated[int, Field(ge=1)] = 64
    """Requests at once."""
    timeout: Annotated[float, Field(gt=0)] = 120
    """Seconds that one request may take."""
    patience: Annotated[float, Field(gt=0)] = 900
    """Seconds without any answer after which the endpoint is given up."""

    @field_validator("url")
    @classmethod
    def _plain(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an address starts with http:// or https://")
        if parts.username or parts.password or parts.query:
            raise ValueError("an address holds no key or password: name an environment variable as 'key'")
        return url

    @model_validator(mode="after")
    def _whole(self) -> EndpointSpec:
        if self.budget is not None and self.price is None:
            raise ValueError("a budget needs a price")
        fixed = {"model", "messages", "temperature", "stream", "n", "max_tokens", "max_completion_tokens"}
        if taken := sorted(fixed & set(self.options)):
            raise ValueError(f"options.{taken[0]} is set by fewtable")
        return self

    @property
    def params(self) -> dict[str, Any]:
        """The keys of a request's body beside model and messages. Temperature 0 as in UniversalNER, section 3.1."""
        return {"temperature": 0, self.limit_as: self.max_tokens, **self.options}


class PipelineSpec(Spec):
    """A spaCy pipeline that comes inside a package."""

    package: str
    """Import name of the package."""
    version: str
    path: str
    """The pipeline's folder inside the package."""
    types: dict[str, str]
    """The pipeline's label -> natural words; other labels are left out."""
    trim: tuple[str, ...] = ()
    """Lower-cased words that are taken off both ends of a mention."""


class TeacherSpec(Spec):
    """config/teachers/NAME.yaml: a teacher, either an endpoint or a local pipeline."""

    title: str
    note: str | None = None
    prompt: PromptKind = "type"
    """What an endpoint is asked for: the entities' types, or a definition of each."""
    endpoint: EndpointSpec | None = None
    pipeline: PipelineSpec | None = None

    @model_validator(mode="after")
    def _one(self) -> TeacherSpec:
        if (self.endpoint is None) == (self.pipeline is None):
            raise ValueError("a teacher names exactly one of endpoint, pipeline")
        if self.pipeline and self.prompt != "type":
            raise ValueError("a pipeline takes no prompt")
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """What can change an answer: not the address, the price or how fast it is asked."""
        if self.pipeline:
            return {"pipeline": self.pipeline.model_dump(mode="json")}
        assert self.endpoint
        return {"prompt": self.prompt, "model": self.endpoint.model, "params": self.endpoint.params}
