"""Entities whose boundary one run has right and the other has not, from predictions; picked by a rule, never by hand.

Followed: OBP-LLM, section 4.7 and Figure 6, which shows two cases of a random sample. Here those the other way round
are counted too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

from fewtable.corpus import Entity, Sentence
from fewtable.errors import DataError
from fewtable.files import stable_seed
from fewtable.predictions import read_predictions, read_tasks
from fewtable.registry import validate
from fewtable.views.spec import SIDES, CasesSpec

Outcome = Literal["right", "boundary", "missed"]
OUTCOMES: tuple[Outcome, ...] = ("right", "boundary", "missed")


@dataclass(frozen=True)
class Instance:
    """A sentence in a draw, and what both runs answer."""

    dataset: str
    draw: int
    sentence: Sentence
    """With its gold entities."""
    before: tuple[Entity, ...]
    after: tuple[Entity, ...]


@dataclass(frozen=True)
class Case:
    """A gold entity of an instance."""

    instance: Instance
    gold: Entity

    def answered(self, side: str) -> list[Entity]:
        """Return what a side answers of the entity's type where the entity stands."""
        answers = self.instance.before if side == "before" else self.instance.after
        return [answer for answer in sorted(answers) if _overlaps(answer, self.gold)]


@dataclass
class Cases:
    """What was found in some instances."""

    spec: CasesSpec
    found: list[Case]
    """The cases that are shown, in a random order."""
    counts: dict[str, Counter[tuple[Outcome, Outcome]]]
    """Dataset -> (outcome before, outcome after) -> gold entities."""
    instances: Counter[str] = field(default_factory=Counter)
    """Dataset -> instances that were looked at."""
    missing: dict[str, str] = field(default_factory=dict)
    """Dataset -> why there is nothing of it."""


def outcome(gold: Entity, answers: Iterable[Entity], others: Iterable[Entity]) -> Outcome:
    """Say how a gold entity fared.

    ``boundary``: a wrong answer of its type shares a word with it, even where the right one is there too (the boundary
    error rate counts wrong answers). ``right``: it is answered, and no such answer is there. ``missed``: neither.

    Args:
        gold: the entity.
        answers: all that a run answers for the sentence.
        others: all gold entities of the sentence.
    """
    answers, known = set(answers), set(others)
    if any(_overlaps(answer, gold) and answer not in known for answer in answers):
        return "boundary"
    return "right" if gold in answers else "missed"


def _overlaps(one: Entity, other: Entity) -> bool:
    return one.type == other.type and one.start < other.end and other.start < one.end


def pick(spec: CasesSpec, instances: Sequence[Instance]) -> Cases:
    """Count how the gold entities of a sample of instances fare, and pick the cases to show.

    The order of instances and of cases is that of a stable hash of their names: random, and the same each time. An
    entity is shown once, whatever number of draws ask its sentence.
    """
    ordered = sorted(instances, key=lambda one: stable_seed("instance", one.dataset, one.draw, one.sentence.id))
    chosen = ordered[: spec.instances]
    counts: dict[str, Counter[tuple[Outcome, Outcome]]] = {name: Counter() for name in spec.datasets}
    mended: dict[tuple[str, str, Entity], Case] = {}
    for one in chosen:
        golds = one.sentence.entities
        for gold in golds:
            fates = outcome(gold, one.before, golds), outcome(gold, one.after, golds)
            counts[one.dataset][fates] += 1
            if fates == ("boundary", "right"):
                mended.setdefault((one.dataset, one.sentence.id, gold), Case(one, gold))
    cases = sorted(mended.items(), key=lambda item: stable_seed("case", *item[0][:2], *item[0][2]))
    shown = [case for _, case in cases[: spec.shown]]
    return Cases(spec, shown, counts, Counter(one.dataset for one in chosen))


def from_params(params: Mapping[str, Any], results: Path) -> Cases:
    """Read the predictions that the plan's params describe, and pick the cases.

    Raises:
        DataError: predictions are malformed, or lack a sentence of their samples.
    """
    spec = validate(CasesSpec, params["spec"], f"cases {params['name']}")
    blocked = params["blocked"]
    whys = {d: next((blocked[p] for s in SIDES if (p := f"{d}/{s}") in blocked), "") for d in spec.datasets}
    instances = [
        one
        for dataset, block in product((d for d, why in whys.items() if not why), params["blocks"])
        for one in _instances(spec, dataset, block, params["query"], results)
    ]
    found = pick(spec, instances)
    found.missing.update({dataset: why for dataset, why in whys.items() if why})
    return found


def _instances(spec: CasesSpec, dataset: str, block: str, query: str, results: Path) -> list[Instance]:
    answers = []
    for side in SIDES:
        path = results / "runs" / spec.cells[f"{dataset}/{side}"] / block / f"predictions.{query}.jsonl"
        answers.append(read_predictions(path))
    found = []
    for task in read_tasks(results, dataset, spec.setting, block):
        for sentence in task.query:
            try:
                before, after = (side[task.draw][sentence.id].entities for side in answers)
            except KeyError:
                raise DataError(
                    f"no prediction of {sentence.id}, draw {task.draw}",
                    where=str(results / "runs" / spec.cells[f"{dataset}/before"] / block),
                    fix="remove the predictions and parse again",
                ) from None
            found.append(Instance(dataset, task.draw, sentence, before, after))
    return found
