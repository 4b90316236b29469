"""Entities of a person's own text, by a run's trained model."""

from __future__ import annotations

import re
from pathlib import Path

from fewtable.corpus import Entity, Sentence, Task, build_tasks, read_samples
from fewtable.errors import DataError
from fewtable.families.base import Job
from fewtable.plan import Plan
from fewtable.predictions import entity_types, make_format, task_types
from fewtable.registry import find_module
from fewtable.resolve import Run
from fewtable.runner import read_spec

_WORD = re.compile(r"[@#]?\w+(?:[.'’/&-]\w+)*|\S")


def split_words(text: str) -> tuple[str, ...]:
    """Split text into words as most corpora do: punctuation stands alone, @names, #tags and hyphens stay whole."""
    return tuple(_WORD.findall(text))


def predict(plan: Plan, folder: Path, text: str) -> tuple[tuple[str, ...], tuple[Entity, ...]]:
    """Return the words of ``text`` and the entities that a run finds in them.

    Args:
        plan: the plan, for the decoding options of the run's method.
        folder: ``results/runs/.../BLOCK``, its ``model`` folder, or one draw's folder in that.
        text: one sentence.

    Raises:
        DataError: the folder holds no trained model, its draw has no sample, or the text holds no word.
    """
    words = split_words(text)
    if not words:
        raise DataError("the text holds no word", fix="give a sentence")
    model = _model_folder(folder)
    spec = read_spec(str(model.parent / "spec.json"))
    run = Run(spec.dataset, spec.setting, spec.method, spec.backbone)
    draw = int(model.name)
    block = f"{spec.draws[0]}-{spec.draws[-1]}"
    path = Path(f"results/samples/{run.dataset}/{run.setting}/{block}.jsonl")
    samples = [sample for sample in read_samples(path) if sample.draw == draw]
    if not samples:
        raise DataError(
            f"the sample of draw {draw} is not in this file", where=str(path), fix="give the folder of another draw"
        )
    files = {split: Path(path) for split, path in plan.data_files(run.dataset, run.setting).items()}
    source = build_tasks(samples, files)[0]
    task = Task(draw, source.types, source.support, (Sentence("text-000000", words),))
    method = plan.method(run)
    decode = spec.model_copy(update={"decoding": method.decode})
    family = find_module("families", spec.family, spec.method)
    session = family.load(Job(spec=decode, backbone=Path("results/backbones") / spec.backbone, device_batch=1))
    output = next(iter(session.decode(task, model)))
    types = task_types(entity_types(spec.types), task.types)
    options = {"name": method.format, **method.format_options}
    return words, make_format(options, types).parse(words, output).entities


def _model_folder(folder: Path) -> Path:
    for parent in (folder.parent, folder, folder / "model"):
        if (parent / "spec.json").exists():
            draws = sorted((p for p in parent.iterdir() if p.is_dir() and p.name.isdigit()), key=lambda p: int(p.name))
            chosen = folder if parent == folder.parent else draws[0]
            if chosen in draws:
                return chosen
    raise DataError(
        "no trained model here", where=str(folder), fix="give results/runs/DATASET/SETTING/METHOD/BACKBONE/BLOCK"
    )
