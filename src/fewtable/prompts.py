"""What a method shows its model of a dataset's sentences, and what it should answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fewtable.data.load import load_split
from fewtable.errors import ConfigError
from fewtable.formats.dialogue import text
from fewtable.plan import Plan
from fewtable.predictions import entity_types, make_format
from fewtable.resolve import Run


def prompts(plan: Plan, run: Run, split: str, limit: int) -> Iterator[dict[str, str]]:
    """Yield {id, prompt, target} of the questions about the first ``limit`` sentences of a split.

    Where the family writes prompt and answer into a text template of its own, ``text`` is the whole, with ``</s>`` for
    the token that ends answers; a chat template is the tokenizer's and not known here.

    Raises:
        ConfigError: the method shows its model words, not prompts.
    """
    method = plan.method(run)
    types = {name: kind.model_dump() for name, kind in plan.registry.dataset(run.dataset).types.items()}
    form = make_format({"name": method.format, **method.format_options}, entity_types(types))
    if form.kind != "text":
        raise ConfigError(f"method '{run.method}' shows its model words, not prompts (format {method.format})")
    template = method.train.get("template", "chat")
    for sentence in load_split(plan.registry, plan.user, run.dataset, split)[: max(limit, 0)]:
        for example in form.render(replace(sentence, source=sentence.source or run.dataset)):
            row = {"id": sentence.id, "prompt": example.prompt, "target": example.target}
            yield row if template == "chat" else row | {"text": text(example, template, "</s>")}
