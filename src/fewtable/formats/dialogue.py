"""How an example becomes one text: the words around questions and answers.

A text is a sequence of parts, one a turn: what comes before the answer, the answer, and whether it is learned. After
each answer stands the token that ends answers.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from fewtable.errors import ConfigError
from fewtable.formats.base import Example, Turn

Template = Literal["plain", "bare", "chat", "ie-as-qa", "vicuna"]
"""``plain``: one question, then a cue. ``bare``: one question that ends in its own. ``ie-as-qa``: UniversalNER's
conversations. ``vicuna``: Vicuna's, from v1.1 on. ``chat``: the tokenizer's own."""

CUE = "\nAnswer:"
"""What follows a plain prompt. The answer begins with a space, so that its first word is spelled as in the sentence."""
SYSTEM = {
    "ie-as-qa": "A virtual assistant answers questions from a user based on the provided text.",
    "vicuna": (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    ),
}
"""What a conversation begins with, in UniversalNER's and FastChat's code (src/conversation.py, ``ie_as_qa``;
fastchat/conversation.py, ``vicuna_v1.1``). All else is alike in these two."""


class Part(NamedTuple):
    """A turn as text."""

    head: str
    answer: str
    learned: bool
    lead: str = ""
    """How the answer begins: given to a model that answers."""


def turns(example: Example) -> tuple[Turn, ...]:
    """Return all turns of an example, its own last."""
    return (*example.before, Turn(example.prompt, example.target))


def parts(example: Example, template: Template) -> list[Part]:
    """Return the parts of an example's text in any template but ``chat``.

    Raises:
        ConfigError: a conversation is to be written in ``plain`` or ``bare``.
    """
    lead = " " + example.lead if example.lead else ""
    if template in ("plain", "bare"):
        if example.before:
            raise ConfigError(
                f"the format holds conversations, and a {template} text has one question",
                where="train.template",
                fix="set it to ie-as-qa or chat",
            )
        if template == "bare":
            return [Part(example.prompt, example.target, True, example.lead)]
        return [Part(example.prompt + CUE, " " + example.target, True, lead)]
    found = [Part(f"USER: {t.prompt} ASSISTANT:", " " + t.target, t.learned) for t in turns(example)]
    found[0] = found[0]._replace(head=f"{SYSTEM[template]} {found[0].head}")
    return [*found[:-1], found[-1]._replace(lead=lead)]


def text(example: Example, template: Template, end: str) -> str:
    """Return the text of an example; ``end`` is the token that ends answers."""
    return "".join(part.head + part.answer + end for part in parts(example, template))
