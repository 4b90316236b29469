"""What a model wrote -> entities: outputs.SPLIT.jsonl -> predictions.SPLIT.jsonl, through the run's format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fewtable.corpus import Entity, EntityType, Task, build_tasks, read_samples
from fewtable.errors import DataError
from fewtable.files import read_jsonl, write_jsonl
from fewtable.formats.base import Dropped, Format, Parsed
from fewtable.registry import find_module, validate


def entity_types(types: Mapping[str, Mapping[str, str]]) -> list[EntityType]:
    """Return the types of a resolved spec, in its order; parts that its format does not use are empty."""
    return [EntityType(n, p.get("words", ""), p.get("definition", "")) for n, p in types.items()]


def task_types(types: Sequence[EntityType], names: Sequence[str]) -> list[EntityType]:
    """Return the types of a task; those of a dataset with open types, which its spec does not list, by their names."""
    if not types:
        return [EntityType(name, name, "") for name in names]
    asked = set(names)
    return [kind for kind in types if kind.name in asked]


def make_format(options: Mapping[str, Any], types: Sequence[EntityType]) -> Format:
    """Return the format that ``options`` name, for an inventory of types."""
    rest = dict(options)
    name = str(rest.pop("name"))
    found = find_module("formats", name, "format.name").FORMAT
    made: Format = found(types, validate(found.Options, rest, f"format {name}"))
    return made


def formats_of(task: Task, make: Callable[[tuple[str, ...]], Format]) -> list[Format]:
    """Return the format of each query sentence: ``make`` for the types that it is asked about, once for each choice."""
    if not task.asked:
        return [make(task.types)] * len(task.query)
    made = {names: make(names) for names in dict.fromkeys(task.asked)}
    return [made[names] for names in task.asked]


def parse_outputs(
    outputs: Path,
    tasks: Sequence[Task],
    options: Mapping[str, Any],
    types: Sequence[EntityType],
    target: Path,
) -> int:
    """Parse a block's outputs with each draw's own types and write its predictions; return their number.

    Raises:
        DataError: the outputs are not those of the tasks' query sentences, in order (file:line).
    """
    expected = [(task, sentence) for task in tasks for sentence in task.query]
    formats = _formats(tasks, options, types)

    def rows() -> Iterator[dict[str, Any]]:
        position = 0
        for number, row in read_jsonl(outputs):
            if position == len(expected):
                raise DataError("an output too many", where=f"{outputs}:{number}")
            task, sentence = expected[position]
            if (row["draw"], row["id"]) != (task.draw, sentence.id):
                raise DataError(
                    f"output of {row['id']}, draw {row['draw']}, where {sentence.id}, draw {task.draw} belongs",
                    where=f"{outputs}:{number}",
                    fix="remove the file and decode again",
                )
            parsed = formats[position].parse(sentence.words, row["output"])
            position += 1
            yield {
                "draw": task.draw,
                "id": sentence.id,
                "entities": parsed.entities,
                "dropped": [
                    {"cause": d.cause, "text": d.text} | ({"type": d.type} if d.type else {}) for d in parsed.dropped
                ],
            }
        if position < len(expected):
            raise DataError(f"{len(expected) - position} outputs are missing", where=str(outputs))

    return write_jsonl(target, rows())


def raw_answers(
    outputs: Path, tasks: Sequence[Task], options: Mapping[str, Any], types: Sequence[EntityType]
) -> dict[int, dict[str, Mapping[str, str] | None]]:
    """Read from outputs that ``parse_outputs`` has taken: draw -> sentence id -> type -> the answer as written.

    None for a sentence where the format has no such answers (``Format.raw_answers``).
    """
    formats = _formats(tasks, options, types)
    found: dict[int, dict[str, Mapping[str, str] | None]] = {task.draw: {} for task in tasks}
    for (_, row), form in zip(read_jsonl(outputs), formats, strict=True):
        found[row["draw"]][row["id"]] = form.raw_answers(row["output"])
    return found


def _formats(tasks: Sequence[Task], options: Mapping[str, Any], types: Sequence[EntityType]) -> list[Format]:
    """Return the format of each query sentence of each task, in order."""

    def make(names: tuple[str, ...]) -> Format:
        return make_format(options, task_types(types, names))

    return [form for task in tasks for form in formats_of(task, make)]


def read_predictions(path: Path) -> dict[int, dict[str, Parsed]]:
    """Read predictions: draw -> sentence id -> entities and what was dropped."""
    found: dict[int, dict[str, Parsed]] = {}
    for number, row in read_jsonl(path):
        try:
            parsed = Parsed(
                tuple(Entity(int(s), int(e), str(t)) for s, e, t in row["entities"]),
                tuple(Dropped(d["cause"], d["text"], d.get("type", "")) for d in row["dropped"]),
            )
            draw = found.setdefault(row["draw"], {})
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not a prediction: {error!r}", where=f"{path}:{number}") from None
        if row["id"] in draw:
            raise DataError(f"sentence {row['id']} a second time in draw {row['draw']}", where=f"{path}:{number}")
        draw[row["id"]] = parsed
    return found


def read_tasks(results: Path, dataset: str, setting: str, block: str) -> list[Task]:
    """Return the tasks of a block from the results folder: its samples with the data's sentences."""
    samples = read_samples(results / "samples" / dataset / setting / f"{block}.jsonl")
    splits = sorted({i.rpartition("-")[0] for s in samples for i in (*s.support, *s.query)})
    return build_tasks(samples, {split: results / "data" / dataset / f"{split}.jsonl" for split in splits})
