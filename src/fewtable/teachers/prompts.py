"""The prompts that construct training data, UniversalNER section 3.1.

The type prompt is that of the paper's Figure 1 as the GLiNER paper prints it (Figure 3 there); the definition prompt
changes the words that the paper says it changes. No type list is given: the teacher answers in an open world.
"""

from __future__ import annotations

from fewtable.teachers.spec import PromptKind

SYSTEM = "You are a helpful information extraction system."
_USER = (
    "Given a passage, your task is to {task}. "
    "The output should be in a list of tuples of the following format: "
    '[("entity 1", "{second} 1"), ... ].\n\nPassage: '
)
INSTRUCTION: dict[PromptKind, str] = {
    "type": _USER.format(task="extract all entities and identify their entity types", second="type of entity"),
    "definition": _USER.format(
        task="extract all entities and concepts, and define their type using a short sentence",
        second="definition of the type of entity",
    ),
}
"""What stands before the passage in the user's turn."""


def messages(kind: PromptKind, passage: str) -> list[dict[str, str]]:
    """Return the chat that asks for a passage's entities; the passage is put in as it is, whatever it holds."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": INSTRUCTION[kind] + passage}]
