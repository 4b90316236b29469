"""What a method shows its model of a dataset's sentences, in the test and in training, and what it should answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from fewtable.corpus import Sentence
from fewtable.data.load import load_split
from fewtable.errors import ConfigError
from fewtable.formats.base import Example, Format
from fewtable.formats.dialogue import Template, text
from fewtable.one_draw import one_draw
from fewtable.plan import Plan
from fewtable.predictions import entity_types, make_format, task_types
from fewtable.resolve import Run


def prompts(plan: Plan, run: Run, split: str, limit: int) -> Iterator[dict[str, Any]]:
    """Yield {id, prompt, target} of the questions about the first ``limit`` sentences of a split.

    A conversation has its earlier turns under ``before``. Where the family writes prompt and answer into a text
    template of its own, ``text`` is the whole, with ``</s>`` for the token that ends answers; a chat template is the
    tokenizer's and not known here.

    Raises:
        ConfigError: the method shows its model words, not prompts; the dataset's types are open.
    """
    if plan.registry.dataset(run.dataset).open_types:
        raise ConfigError(
            f"dataset '{run.dataset}' has open types, those of its sentences: no list of them is asked about each",
            where=f"{plan.registry.root}/datasets/{run.dataset}.yaml:open_types",
            fix="--training shows what is learned from it",
        )
    form, template = _format(plan, run, tuple(plan.registry.dataset(run.dataset).types))
    for sentence in load_split(plan.registry, plan.user, run.dataset, split)[: max(limit, 0)]:
        for example in form.render(_sourced(sentence, run)):
            yield {"id": sentence.id, **_row(example, template)}


def training(plan: Plan, run: Run, number: int, limit: int) -> Iterator[dict[str, Any]]:
    """Yield {prompt, target}, as ``prompts`` does, of the first ``limit`` examples that a draw's model is trained on.

    They are those of the workflow: its sample, its negative types, its order of turns. ``learned`` of an earlier turn
    says whether its answer is.

    Raises:
        ConfigError: the method shows its model words, not prompts; nothing is trained in the setting.
    """
    method, setting = plan.method(run), plan.registry.setting(run.setting)
    if setting.sampler.rule == "none" or method.family == "prompt":
        name = f"setting '{run.setting}'" if setting.sampler.rule == "none" else f"method '{run.method}'"
        source = method.init
        again = source and f"fewtable prompts {source.method} {source.dataset} --setting {source.setting} --training"
        raise ConfigError(f"{name} trains nothing", where=run.key, fix=again or "leave --training out")
    sample, support = one_draw(plan, run.dataset, run.setting, number)
    form, template = _format(plan, run, sample.types)
    examples = form.examples([_sourced(sentence, run) for sentence in support], number)
    for example in examples[: max(limit, 0)]:
        yield _row(example, template)


def _format(plan: Plan, run: Run, asked: tuple[str, ...]) -> tuple[Format, Template]:
    method = plan.method(run)
    types = {name: kind.model_dump() for name, kind in plan.registry.dataset(run.dataset).types.items()}
    form = make_format({"name": method.format, **method.format_options}, task_types(entity_types(types), asked))
    if form.kind != "text":
        raise ConfigError(f"method '{run.method}' shows its model words, not prompts (format {method.format})")
    return form, method.train.get("template", "chat")


def _sourced(sentence: Sentence, run: Run) -> Sentence:
    return replace(sentence, source=sentence.source or run.dataset)


def _row(example: Example, template: Template) -> dict[str, Any]:
    row: dict[str, Any] = {"before": [asdict(turn) for turn in example.before]} if example.before else {}
    row |= {"prompt": example.prompt, "target": example.target}
    return row if template == "chat" else row | {"text": text(example, template, "</s>")}
