"""Entities of a person's own text, by a run's model: of the types that it learned, or of any that it is asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fewtable import corpus
from fewtable.corpus import Entity, Sentence, Task, build_tasks, drop_overlaps, read_samples
from fewtable.errors import ConfigError, DataError
from fewtable.families.base import Job
from fewtable.formats.base import Parsed
from fewtable.plan import Plan
from fewtable.predictions import entity_types, make_format, task_types
from fewtable.registry import find_module
from fewtable.resolve import Run
from fewtable.runner import read_spec
from fewtable.specs import RunSpec

_WORD = re.compile(r"[@#]?\w+(?:[.'’/&-]\w+)*|\S")
COLOURS = (36, 33, 35, 32, 34, 31)
"""Of a terminal's own, one a type; the type stands behind its entities too."""


def corpus_words(text: str) -> tuple[str, ...]:
    """Split text into words as most corpora do: punctuation stands alone, @names, #tags and hyphens stay whole."""
    return tuple(_WORD.findall(text))


def predict(plan: Plan, run: Path, text: str, types: Sequence[str] = ()) -> tuple[Sentence, Parsed]:
    """Return ``text`` in words, and what was read in a run's answers about it.

    Args:
        plan: the plan, for the decoding options of the run's method.
        run: ``results/runs/.../BLOCK``, its ``model`` folder, or one draw's folder in that; or a run by name,
            ``DATASET/SETTING/METHOD/BACKBONE``. Where a run trains nothing, the model of its source run answers.
        text: one sentence. With types, or where nothing is trained, its words stay as they are written.
        types: what is asked for, in place of the types that the run learned.

    Raises:
        ConfigError: the method cannot be asked for other types, or has none of its own.
        DataError: the run has no trained model, its draw has no sample, or the text holds no word.
    """
    spec, model = _found(plan, run)
    named = Run(spec.dataset, spec.setting, spec.method, spec.backbone)
    method = plan.method(named)
    if types and "words" not in method.uses:
        raise ConfigError(
            f"method '{spec.method}' finds the types that it learned and no others", where="--types", fix="leave it out"
        )
    if not types and plan.registry.dataset(spec.dataset).open_types:
        raise ConfigError("the run has no types of its own", where=named.key, fix="name some: --types 'person, place'")
    untrained = plan.registry.setting(spec.setting).sampler.rule == "none"
    words, glued = corpus.split_words(text) if types or untrained else (corpus_words(text), ())
    if not words:
        raise DataError("the text holds no word", fix="give a sentence")
    sentence = Sentence("text-000000", words, glued=glued)
    if types:
        spec = spec.model_copy(update={"types": {name: {"words": name, "definition": name} for name in types}})
    if types or untrained:
        task = Task(1, tuple(spec.types), (), (sentence,))
    else:
        task = _learned(plan, named, f"{spec.draws[0]}-{spec.draws[-1]}", int(model.name), sentence)
    family = find_module("families", spec.family, spec.method)
    decode = spec.model_copy(update={"decoding": method.decode})
    session = family.load(Job(spec=decode, backbone=Path("results/backbones") / spec.backbone, device_batch=1))
    output = next(iter(session.decode(task, model)))
    options = {"name": method.format, **method.format_options}
    form = make_format(options, task_types(entity_types(spec.types), task.types))
    return sentence, form.parse(words, output)


def coloured(sentence: Sentence, entities: Sequence[Entity]) -> str:
    """Return the sentence with its entities in a terminal's colours, each followed by its type; the longer of two."""
    kinds = list(dict.fromkeys(entity.type for entity in entities))
    starts = {entity.start: entity for entity in drop_overlaps(entities)}
    glued = set(sentence.glued)
    text, place = "", 0
    while place < len(sentence.words):
        entity = starts.get(place)
        end = entity.end if entity else place + 1
        text += " " if place and place not in glued else ""
        found = sentence.surface(place, end)
        if entity:
            colour = COLOURS[kinds.index(entity.type) % len(COLOURS)]
            found = f"\x1b[1;{colour}m{found}\x1b[0;2m [{entity.type}]\x1b[0m"
        text += found
        place = end
    return text


def _learned(plan: Plan, run: Run, block: str, draw: int, sentence: Sentence) -> Task:
    """Return the task of a draw, its sample's support and types, with ``sentence`` as what is asked."""
    path = Path(f"results/samples/{run.dataset}/{run.setting}/{block}.jsonl")
    samples = [sample for sample in read_samples(path) if sample.draw == draw]
    if not samples:
        raise DataError(
            f"the sample of draw {draw} is not in this file", where=str(path), fix="give the folder of another draw"
        )
    files = {split: Path(path) for split, path in plan.data_files(run.dataset, run.setting).items()}
    source = build_tasks(samples, files)[0]
    return Task(draw, source.types, source.support, (sentence,))


def _found(plan: Plan, folder: Path) -> tuple[RunSpec, Path]:
    """Return a run's spec and the folder of a draw's model."""
    if model := _model_folder(folder):
        return read_spec(str(model.parent / "spec.json")), model
    names = folder.parts[2:] if folder.parts[:2] == ("results", "runs") else folder.parts
    if len(names) not in (4, 5):
        raise DataError(
            "no trained model here", where=str(folder), fix="give results/runs/DATASET/SETTING/METHOD/BACKBONE/BLOCK"
        )
    run = Run(*names[:4])
    plan.method(run)
    block = names[4] if len(names) == 5 else plan.blocks(run.setting)[0]
    path = Path(plan.trained_model(run, block))
    model = _model_folder(path)
    if model is None:
        raise DataError("this run has no model yet", where=str(path), fix=f"snakemake --cores 1 {path}")
    return plan.run_spec(run, block, decode=True), model


def _model_folder(folder: Path) -> Path | None:
    for parent in (folder.parent, folder, folder / "model"):
        if (parent / "spec.json").exists():
            draws = sorted((p for p in parent.iterdir() if p.is_dir() and p.name.isdigit()), key=lambda p: int(p.name))
            chosen = folder if parent == folder.parent else draws[0]
            if chosen in draws:
                return chosen
    return None
