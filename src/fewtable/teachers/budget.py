"""What asking costs: a budget that a journal never passes, and an estimate before anything is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fewtable.errors import FewtableError
from fewtable.teachers.journal import Answer
from fewtable.teachers.spec import EndpointSpec, PriceSpec, PromptKind

EXPECTED: dict[PromptKind, int] = {"type": 80, "definition": 250}
"""Tokens of an answer where none has come yet: UniversalNER's 5.2 entities a passage at about 15 tokens each, and at
about 48 with a definition."""
OVERHEAD = 16
"""Tokens that a chat template adds to the two messages, at most."""


class BudgetError(FewtableError):
    """The next request could pass the budget."""


def dollars(price: PriceSpec | None, tokens: Sequence[int]) -> float:
    """Return the price of (input, output) tokens."""
    return (tokens[0] * price.input + tokens[1] * price.output) / 1e6 if price else 0.0


def money(amount: float) -> str:
    """Return dollars for people: cents, and below a dollar three digits of what there is."""
    if amount >= 1 or amount <= 0:
        return f"${amount:,.2f}"
    return f"${amount:.{2 - math.floor(math.log10(amount))}f}"


def at_most(messages: Sequence[dict[str, str]], max_tokens: int) -> tuple[int, int]:
    """Return the most (input, output) tokens that a request can be billed: no tokenizer gives a byte two tokens."""
    return sum(len(m["content"].encode()) for m in messages) + OVERHEAD, max_tokens


class Budget:
    """One journal's spent and held dollars: a request holds the most that it can cost until it is answered."""

    def __init__(self, spec: EndpointSpec, spent: Sequence[int]) -> None:
        self.price = spec.price
        self.limit = spec.budget
        self.spent = dollars(spec.price, spent)
        self.held = 0.0
        self.in_flight = 0

    def fits(self, tokens: Sequence[int]) -> bool:
        """Say whether a request that costs ``tokens`` at most can be sent now."""
        return self.limit is None or self.spent + self.held + dollars(self.price, tokens) <= self.limit

    def hold(self, tokens: Sequence[int]) -> None:
        """Set a request's most aside."""
        self.in_flight += 1
        self.held += dollars(self.price, tokens)

    def settle(self, held: Sequence[int], billed: Sequence[int]) -> None:
        """Take a request's most back and count what it was billed."""
        self.in_flight -= 1
        self.held = self.held - dollars(self.price, held) if self.in_flight else 0.0
        self.spent += dollars(self.price, billed)

    def passed(self, left: int, tokens: Sequence[int]) -> BudgetError:
        """Return what is said when the next of ``left`` requests, which costs ``tokens`` at most, could pass it."""
        assert self.limit is not None
        return BudgetError(
            f"the budget of {money(self.limit)} could be passed: {money(self.spent)} spent, the next request may cost "
            f"up to {money(dollars(self.price, tokens))}, {left:,} requests left",
            fix="raise endpoint.budget in its YAML; what was answered is kept",
        )


@dataclass(frozen=True)
class Estimate:
    """What asking would cost."""

    requests: int
    answered: int
    """Requests that the journal answers already."""
    tokens: tuple[int, int]
    """Input and output tokens expected."""
    most: tuple[int, int]
    """Input and output tokens at most."""
    price: PriceSpec | None
    budget: float | None
    spent: float = 0.0
    """Dollars that the journal counts."""

    def render(self) -> str:
        """Return the estimate as lines for people."""
        lines = [
            f"requests       {self.requests:,} to send, {self.answered:,} answered already",
            f"input tokens   {self.tokens[0]:,} expected, {self.most[0]:,} at most",
            f"output tokens  {self.tokens[1]:,} expected, {self.most[1]:,} at most",
        ]
        if self.price:
            expected, most = dollars(self.price, self.tokens), dollars(self.price, self.most)
            lines.append(f"price          {money(expected)} expected, {money(most)} at most")
        else:
            lines.append("price          none")
        if self.budget is not None:
            lines.append(
                f"budget         {money(self.budget)}, for this teacher on this corpus; {money(self.spent)} spent"
            )
        return "\n".join(lines)


def expected_tokens(prompt: PromptKind, passages: Sequence[int], answers: Sequence[Answer]) -> tuple[int, int]:
    """Return the (input, output) tokens that passages of some lengths are expected to cost.

    What has been answered tells the mean answer; before that, ``EXPECTED`` does.
    """
    told = [a.tokens[1] for a in answers if a.refused is None]
    answer = sum(told) / len(told) if told else EXPECTED[prompt]
    instruction = 80  # the prompt of either kind, and what a chat template adds
    return sum(passages) + instruction * len(passages), round(answer * len(passages))
