"""The typed form of config/views/NAME.yaml and config/cases/NAME.yaml. Imports nothing heavy."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fewtable.specs import Name, RunSpec, Spec

SIDES = ("before", "after")


class SideSpec(Spec):
    """One of the two methods."""

    title: str
    method: Name


class PairSpec(Spec):
    """Two methods on the same samples and backbone, the second with what the first lacks."""

    title: str
    caption: str = ""
    datasets: Annotated[tuple[Name, ...], Field(min_length=1)]
    setting: Name
    backbone: Name
    before: SideSpec
    after: SideSpec

    @model_validator(mode="after")
    def _once(self) -> PairSpec:
        if len(set(self.datasets)) < len(self.datasets):
            raise ValueError("a dataset is named twice")
        return self

    def side(self, name: str) -> SideSpec:
        """Return ``before`` or ``after``."""
        return {"before": self.before, "after": self.after}[name]

    @property
    def cells(self) -> dict[str, str]:
        """Place (``DATASET/before``, ``DATASET/after``) -> cell key."""
        return {
            f"{dataset}/{side}": f"{dataset}/{self.setting}/{self.side(side).method}/{self.backbone}"
            for dataset, side in product(self.datasets, SIDES)
        }


class AttentionSpec(Spec):
    """From the tokens of a right answer back to the words of its sentence."""

    type: str
    """The type that is asked for."""
    sentence: Annotated[tuple[str, ...], Field(min_length=1)]
    """Its words."""
    entities: Annotated[tuple[str, ...], Field(min_length=1)]
    """Its entities of the type, each as its words with a space between; the first place where they stand counts."""

    @model_validator(mode="after")
    def _there(self) -> AttentionSpec:
        for entity in self.entities:
            if self.place(entity) is None:
                raise ValueError(f"'{entity}' does not stand in the sentence")
        return self

    def place(self, entity: str) -> tuple[int, int] | None:
        """Return the words that an entity is, start and end (exclusive); None where it is not in the sentence."""
        words = tuple(entity.split())
        starts = (n for n in range(len(self.sentence)) if self.sentence[n : n + len(words)] == words)
        start = next(starts, None)
        return None if start is None or not words else (start, start + len(words))


class SpaceSpec(Spec):
    """Entities of sentences that the runs have not learned from, as points by how the models represent them."""

    entities: Annotated[int, Field(ge=2)] = 60
    """Most entities of a type, in a random order."""
    perplexity: Annotated[float, Field(gt=0)] = 30
    """t-SNE's: about how many neighbours a point is drawn near to."""


class ViewSpec(PairSpec):
    """config/views/NAME.yaml: a figure of what two runs' models do inside."""

    draw: Annotated[int, Field(ge=1)] = 1
    """The draw whose models are looked at."""
    layer: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """The layer, from 1; ``auto`` as OBP-LLM's contrast has it (``training.contrast``)."""
    attention: AttentionSpec | None = None
    space: SpaceSpec | None = None

    @model_validator(mode="after")
    def _one(self) -> ViewSpec:
        if (self.attention is None) == (self.space is None):
            raise ValueError("a view has 'attention' or 'space'")
        if self.attention and len(self.datasets) > 1:
            raise ValueError("'attention' is that of one sentence: name one dataset")
        return self


class Look(Spec):
    """What is looked at of a dataset: paths, and by side a folder of models and the spec that trained them."""

    samples: str
    data: str
    """The split that the setting asks."""
    backbone: str
    models: dict[str, str]
    specs: dict[str, RunSpec]


class LookSpec(Spec):
    """What the job of a view is given (``--spec``): see ViewSpec; dataset -> look."""

    draw: int
    layer: Literal["auto"] | int
    attention: AttentionSpec | None
    space: SpaceSpec | None
    looks: dict[str, Look]


class CasesSpec(PairSpec):
    """config/cases/NAME.yaml: entities whose boundary the second method has right and the first has not."""

    instances: Annotated[int, Field(ge=1)] | None = None
    """Sentences of a draw that are looked at, in a random order; None all."""
    shown: Annotated[int, Field(ge=1)] = 8
    """Most cases that are shown."""
