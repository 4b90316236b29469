"""Asks an OpenAI-compatible endpoint: many requests at once, waits out what passes, stops at what does not.

A request is tried again after 408, 409, 425, 429, 5xx, a time-out, a dropped connection and an answer that is no chat
completion, with growing pauses; ``Retry-After`` stops all requests for as long as it says. While the endpoint answers
nothing, it is waited for (``patience``); a request that fails while others are answered is given up after ``TRIES``,
for this run alone: what may pass is never journalled.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import aiohttp
import httpx2
import openai

from fewtable.errors import ConfigError, DataError
from fewtable.teachers.budget import Budget, at_most
from fewtable.teachers.journal import Answer, Journal
from fewtable.teachers.spec import EndpointSpec

TRIES = 12
"""Failures of one request, while others are answered, after which it is given up."""
PAUSE = 0.5
"""Seconds before the second try; each further pause is twice as long, up to ..."""
LONGEST_PAUSE = 20.0
"""... this."""
UNANSWERED = 8
"""Requests refused before any is answered that show a wrong configuration."""
REASON = 200
"""Characters that are kept of an endpoint's own words."""
PASSING = (408, 409, 425, 429)
"""Statuses below 500 that pass."""


@dataclass(frozen=True)
class Request:
    """A chat to send, under the key of its answer."""

    key: str
    messages: list[dict[str, str]]


class _Passing(Exception):
    """A failure that may pass: its short name, the pause asked for, whether the request may have been billed."""

    def __init__(self, name: str, pause: float | None = None, billed: bool = False) -> None:
        super().__init__(name)
        self.name, self.pause, self.billed = name, pause, billed


class _Refused(Exception):
    """The endpoint will not answer this request."""


def read_key(spec: EndpointSpec, environment: Mapping[str, str]) -> str:
    """Return the API key from the environment; it is told to nobody but the endpoint.

    Raises:
        ConfigError: the variable is not set, or holds what no key is.
    """
    if spec.key is None:
        return "none"
    key = environment.get(spec.key, "").strip()
    if not key:
        raise ConfigError(f"the environment variable {spec.key} is not set", fix=f"export {spec.key}=...")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"the environment variable {spec.key} holds no API key", fix="set it to the key alone")
    return key


async def ask_all(requests: Sequence[Request], spec: EndpointSpec, journal: Journal, bar: Any) -> None:
    """Ask all requests, each answer journalled as it comes; without requests, nothing, a key neither, is looked at.

    Args:
        requests: with keys that the journal does not answer.
        spec: the endpoint.
        journal: where answers go.
        bar: a tqdm bar, moved on by one an answer.

    Raises:
        ConfigError: the key or the model is wrong.
        BudgetError: the next request could pass the budget.
        DataError: the endpoint does not answer; the disk is full.
    """
    if not requests:
        return
    async with openai.AsyncOpenAI(
        api_key=read_key(spec, os.environ),
        base_url=spec.url,
        max_retries=0,
        timeout=spec.timeout,
        http_client=openai.DefaultAioHttpClient(timeout=spec.timeout),
    ) as client:
        asking = _Asking(client, spec, journal, Budget(spec, journal.billed), bar, len(requests))
        left = iter(requests)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(spec.in_flight, len(requests))):
                    group.create_task(asking.work(left))
        except BaseExceptionGroup as failures:  # the first ended the others
            raise failures.exceptions[0] from None
        asking.finish()


class _Asking:
    """One call of ask_all: what its workers share."""

    def __init__(
        self, client: openai.AsyncOpenAI, spec: EndpointSpec, journal: Journal, budget: Budget, bar: Any, left: int
    ) -> None:
        self.client, self.spec, self.journal, self.budget, self.bar = client, spec, journal, budget, bar
        self.left = left
        self.answered = 0
        """Replies that were answers or refusals, which show that the endpoint runs."""
        self.live = any(answer.refused is None for answer in journal.answers.values())
        self.refused: list[Answer] = []
        """Refusals that wait for a first answer, which shows that the endpoint is configured rightly."""
        self.heard_at = time.monotonic()
        self.closed_until = 0.0
        self.settled = asyncio.Event()

    async def work(self, requests: Iterator[Request]) -> None:
        """Ask one request after another."""
        for request in requests:
            await self._answer(request)

    def finish(self) -> None:
        """Raise when nothing but refusals came."""
        if self.refused:
            raise ConfigError(
                f"the endpoint refuses what it is asked: {self.refused[0].refused}",
                where=self.spec.url,
                fix="look at the teacher's endpoint: model, max_tokens, limit_as, options",
            )

    def _note(self, answer: Answer) -> None:
        self.left -= 1
        self.bar.update()
        self.live = self.live or answer.refused is None
        self.refused.append(answer)
        if self.live:
            for waiting in self.refused:
                self.journal.add(waiting)
            self.refused = []
        elif len(self.refused) >= UNANSWERED:
            self.finish()

    async def _answer(self, request: Request) -> None:
        """Ask until there is an answer or a refusal, and write it down."""
        failures, seen = 0, self.answered
        for attempt in count(1):
            failure = await self._try(request, self._note)
            if failure is None:
                return
            await asyncio.sleep(self._pause(attempt, failure))
            if failure.name == "status 429":
                continue
            silent = time.monotonic() - self.heard_at > self.spec.patience / 2
            if (attempt >= TRIES or silent) and self.answered == seen:
                await self._probe()
            failures += self.answered > seen
            seen = self.answered
            if failures >= TRIES:
                self._note(Answer(request.key, refused=failure.name, again=True))
                return

    async def _probe(self) -> None:
        """Ask something else: when that is answered, the endpoint is not down, and the failure counts."""
        probe = Request("", [{"role": "user", "content": "Say yes."}])
        await self._try(probe, lambda answer: self.journal.add_lost(*answer.tokens))

    async def _try(self, request: Request, note: Callable[[Answer], None]) -> _Passing | None:
        """Send a request once; an answer or a refusal is noted, a failure that may pass is returned."""
        held = at_most(request.messages, self.spec.max_tokens)
        await self._reserve(held)
        billed: Sequence[int] = (0, 0)
        try:
            answer = await self._once(request)
            billed = answer.tokens
            self.answered += 1
            self.heard_at = time.monotonic()
            note(answer)
        except _Refused as refusal:
            self.answered += 1
            self.heard_at = time.monotonic()
            note(Answer(request.key, refused=str(refusal)))
        except _Passing as failure:
            if failure.billed:
                billed = held
                self.journal.add_lost(*held)
            return failure
        finally:
            self.budget.settle(held, billed)
            self.settled.set()
        return None

    def _pause(self, attempt: int, failure: _Passing) -> float:
        """Return the seconds before the next try."""
        now, patience = time.monotonic(), self.spec.patience
        if now - self.heard_at > patience:
            raise DataError(
                f"no answer for {patience:g} s; the last failure: {failure.name}",
                where=self.spec.url,
                fix="see that the endpoint runs, and run it again: what was answered is kept",
            )
        if failure.pause is not None:
            if failure.pause > patience:
                raise DataError(
                    f"the endpoint asks to wait for {failure.pause:.0f} s",
                    where=self.spec.url,
                    fix="run it again then, or raise the teacher's endpoint.patience",
                )
            self.closed_until = max(self.closed_until, now + failure.pause)
        return min(LONGEST_PAUSE, PAUSE * 2.0 ** min(attempt - 1, 20)) * random.uniform(0.5, 1.0)

    async def _reserve(self, held: Sequence[int]) -> None:
        """Wait for Retry-After to pass, and for room in the budget."""
        while (pause := self.closed_until - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        while not self.budget.fits(held):
            if not self.budget.in_flight:
                raise self.budget.passed(self.left, held)
            self.settled.clear()
            await self.settled.wait()
        self.budget.hold(held)

    async def _once(self, request: Request) -> Answer:
        spec = self.spec
        try:
            async with asyncio.timeout(spec.timeout):
                # The raw body: what a broken server sends must not end in a parser's traceback. And the plain post:
                # the typed call spends a quarter of its time on going through the types of the messages.
                body = {"model": spec.model, "messages": request.messages, **spec.params}
                response = await self.client.post("/chat/completions", cast_to=httpx2.Response, body=body)
                most = at_most(request.messages, spec.max_tokens) if spec.price else (0, 0)
                return self._without_key(_completion(request.key, response.content, most))
        except TimeoutError:
            raise _Passing("time-out", billed=True) from None
        except openai.APIConnectionError as error:
            raise _connection(error) from None
        except openai.APIStatusError as error:
            raise self._status(error) from None

    def _status(self, error: openai.APIStatusError) -> Exception:
        """Return what a status other than 200 means."""
        status = error.status_code
        if status == 429 and error.code == "insufficient_quota":
            return DataError(
                "the account has no quota left", where=self.spec.url, fix="see your plan with the provider"
            )
        if status in PASSING or status >= 500:
            return _Passing(f"status {status}", _retry_after(error.response.headers))
        if status in (401, 403):
            return ConfigError(
                f"the endpoint does not accept the key (status {status})",
                where=self.spec.url,
                fix=f"set {self.spec.key or 'a variable, and name it as the endpoint key,'} to a valid key",
            )
        if status == 404:
            return ConfigError(
                f"the endpoint has no model '{self.spec.model}', or no chat completions",
                where=self.spec.url,
                fix="look at the teacher's endpoint.url, which ends in /v1, and endpoint.model",
            )
        return _Refused(f"status {status}: {self._reason(error)}")

    def _reason(self, error: openai.APIStatusError) -> str:
        """Return the endpoint's own words in one short line; the key goes before they are cut, whole or not at all."""
        body = error.body
        text = body.get("message") if isinstance(body, dict) else None
        return " ".join(self._hidden(str(text or "no reason given")).split())[:REASON]

    def _without_key(self, answer: Answer) -> Answer:
        """Return an answer without the key: an endpoint may repeat what it was sent."""
        return replace(answer, answer=self._hidden(answer.answer), finish=self._hidden(answer.finish))

    def _hidden(self, text: str) -> str:
        """Return what an endpoint wrote with ``[key]`` in place of the key."""
        return text.replace(self.client.api_key, "[key]") if self.spec.key else text


def _connection(error: openai.APIConnectionError) -> _Passing:
    """Return what a failed connection is: only one that never stood was surely not billed."""
    mapped = error.__cause__
    root = mapped.__cause__ if mapped else None
    if isinstance(root, aiohttp.ClientConnectorError):
        return _Passing("no connection")
    return _Passing("time-out" if isinstance(root, TimeoutError) else "dropped connection", billed=True)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that ``Retry-After`` asks for: a number, or a date."""
    value = headers.get("retry-after")
    if value is None:
        return None
    with contextlib.suppress(ValueError):
        return max(0.0, float(value))
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None


def _completion(key: str, body: bytes, most: tuple[int, int]) -> Answer:
    """Read a chat completion; what is none may have been cut on its way, and is asked again.

    Args:
        key: of the request.
        body: what the endpoint sent.
        most: the tokens that count where the endpoint does not say how many there were.
    """
    try:
        value = json.loads(body)
        choice = value["choices"][0]
        message = choice["message"]
        text = _text(message.get("content")) or str(message.get("refusal") or "")
        usage = value.get("usage")
        finish = str(choice.get("finish_reason") or "stop")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise _Passing("garbage in place of a chat completion", billed=True) from None
    counted = usage if isinstance(usage, dict) else {}
    sent, got = (counted.get(name) for name in ("prompt_tokens", "completion_tokens"))
    tokens = (_counted(sent, most[0]), _counted(got, most[1]))
    # A lone surrogate cannot be written to a file.
    return Answer(key, text.encode("utf-8", "replace").decode(), finish, tokens)


def _counted(number: Any, most: int) -> int:
    return number if isinstance(number, int) and number >= 0 else most


def _text(content: Any) -> str:
    """Return the text of a message's content: a string, or a list of parts of which some have one."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
