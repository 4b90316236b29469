"""prompt: a model asked as it comes, zero-shot: its own weights here, or a model behind an endpoint. Trains nothing.

The support is not looked at. A local model reads the method's template; an endpoint puts its own around the turns.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import Field

from fewtable.backbones import read_spec
from fewtable.corpus import Sentence, Task
from fewtable.errors import ConfigError, DataError
from fewtable.families._dialogue import Answering, Dialogue
from fewtable.families._text import format_of, queries
from fewtable.families.base import Fit, Job
from fewtable.files import digest, write_text
from fewtable.formats.base import Example, Format
from fewtable.formats.dialogue import Template, turns
from fewtable.specs import RunSpec, Spec

if TYPE_CHECKING:
    from fewtable.teachers.journal import Answer

log = logging.getLogger(__name__)

BACKBONES = frozenset({"causal", "endpoint"})
OUTPUT = "text"


class Train(Spec):
    """How a local model is asked."""

    template: Template = "chat"
    """The words around questions and answers."""
    prompt_length: Annotated[int, Field(ge=16)] = 2048
    """Most tokens of a prompt; longer ones lose their beginning."""


class Decode(Answering):
    """How answers are generated. An endpoint takes ``max_new_tokens`` alone, and temperature 0."""


class _Asked(Protocol):
    """A model that answers."""

    def answers(
        self, groups: Sequence[Sequence[Example]], form: Format, sentences: Sequence[Sentence]
    ) -> list[list[str]]:
        """Return the answers to the queries of each sentence, in a format."""


class _Local:
    def __init__(self, folder: Path, spec: RunSpec, options: Train, decode: Decode) -> None:
        from transformers import AutoTokenizer
        from transformers.utils import logging as progress

        progress.disable_progress_bar()
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True)
        self._dialogue = Dialogue(tokenizer, options.template, options.prompt_length)
        self._decode = decode
        self._folder, self._spec = folder, spec
        self._model: Any = None

    def answers(
        self, groups: Sequence[Sequence[Example]], form: Format, sentences: Sequence[Sentence]
    ) -> list[list[str]]:
        if self._model is None:
            self._model = self._load()
        prompts = [[self._dialogue.prompt(query) for query in of_one] for of_one in groups]
        return self._dialogue.answers(self._model, prompts, form, self._decode, sentences)

    def _load(self) -> Any:
        from transformers import AutoModelForCausalLM

        from fewtable.decoding.vllm import VllmEngine
        from fewtable.training.device import pick_device
        from fewtable.training.weights import load_model

        if self._spec.engine == "vllm":
            return VllmEngine(self._folder, self._spec.dtype)
        return load_model(AutoModelForCausalLM, self._folder, self._spec.dtype, pick_device())


class _Endpoint:
    def __init__(self, job: Job, decode: Decode) -> None:
        assert job.backbone is not None
        endpoint = read_spec(job.backbone).endpoint
        assert endpoint is not None
        self._spec = endpoint.model_copy(update={"max_tokens": decode.max_new_tokens})
        self._journal = job.journal

    def answers(
        self, groups: Sequence[Sequence[Example]], form: Format, sentences: Sequence[Sentence]
    ) -> list[list[str]]:
        """Ask what the journal does not answer; one question is asked once. A refused one has an empty answer.

        Raises:
            DataError: a question failed again and again, in a way that may pass; and as ``client.ask_all``.
        """
        from tqdm import tqdm

        from fewtable.teachers.client import ask_all
        from fewtable.teachers.journal import Journal

        requests = [[self._request(query) for query in of_one] for of_one in groups]
        with tempfile.TemporaryDirectory() as folder, Journal(self._journal or Path(folder) / "journal") as journal:
            asked = {request.key: request for of_one in requests for request in of_one}
            left = [request for key, request in asked.items() if key not in journal.answers]
            every = 0.5 if sys.stderr.isatty() else 60.0
            with tqdm(total=len(asked), initial=len(asked) - len(left), unit="query", mininterval=every) as bar:
                asyncio.run(ask_all(left, self._spec, journal, bar))
            _look([journal.answers[key] for key in asked], self._spec.url)
            return [[journal.answers[request.key].answer for request in of_one] for of_one in requests]

    def _request(self, query: Example) -> Any:
        from fewtable.teachers.client import Request

        messages = [
            {"role": role, "content": content}
            for turn in turns(query)
            for role, content in (("user", turn.prompt), ("assistant", turn.target))
        ][:-1]
        # Not the address: an answer is the model's, wherever it runs.
        return Request(digest([messages, self._spec.model, self._spec.params]), messages)


def _look(answers: Sequence[Answer], where: str) -> None:
    """Say how many questions were refused; raise DataError where one is to be asked again."""
    refused = [answer for answer in answers if answer.refused is not None]
    if failed := [answer for answer in refused if answer.again]:
        raise DataError(
            f"{len(failed):,} of {len(answers):,} questions have no answer; the first: {failed[0].refused}",
            where=where,
            fix="see that the endpoint runs, and run it again: what was answered is kept",
        )
    if refused:
        log.warning("%d of %d questions were refused; the first: %s", len(refused), len(answers), refused[0].refused)


class _Session:
    def __init__(self, spec: RunSpec, asked: _Asked) -> None:
        self._spec = spec
        self._asked = asked

    def fit(self, task: Task, fit: Fit) -> None:
        """Write a file that says that nothing was trained."""
        write_text(fit.model / "untrained", "")

    def decode(self, task: Task, model: Path) -> Iterator[Any]:
        """Answer the query; the answers are yielded when all are there."""
        form = format_of(self._spec, task)
        for answers in self._asked.answers(queries(self._spec, task), form, task.query):
            yield answers if form.several else answers[0]


def load(job: Job) -> _Session:
    """Load the tokenizer of a local model, or what an endpoint is to be asked; weights are loaded when first used.

    Raises:
        ConfigError: a local model's tokenizer has no chat template where one is asked for; an endpoint is to be held to
            copied answers.
    """
    assert job.backbone is not None
    options = Train.model_validate(job.spec.train)
    decode = Decode.model_validate(job.spec.decoding or {})
    if read_spec(job.backbone).kind == "endpoint":
        if decode.copied:
            raise ConfigError(
                "an endpoint's answers cannot be held to the sentence",
                where=f"{job.spec.method}:decode.copied",
                fix="leave it out, or take a local backbone",
            )
        return _Session(job.spec, _Endpoint(job, decode))
    return _Session(job.spec, _Local(job.backbone, job.spec, options, decode))
