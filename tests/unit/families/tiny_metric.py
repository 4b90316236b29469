"""A task whose types are told by trigger words, and sessions of the token-metric families over a tiny BERT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from test_token_metric import trigger_corpus
from tiny_encoder import build, fit

from fewtable.corpus import Task
from fewtable.families import container, token_metric
from fewtable.families.base import Job
from fewtable.specs import RunSpec

WORDS = {"a": "alpha", "b": "beta", "c": "gamma", "d": "delta"}
MODULES: dict[str, Any] = {"token-metric": token_metric, "container": container}


def trigger_task(train: int = 80, query: int = 60) -> Task:
    """Return 4 types to learn."""
    return Task(1, tuple(WORDS), trigger_corpus("train", train, 1), trigger_corpus("test", query, 2))


def backbone(folder: Path, task: Task, layers: int = 4) -> Path:
    """Write a BERT that knows the words of the task and of its types."""
    words = [w for s in (*task.support, *task.query) for w in s.words]
    return build(folder, [*words, *WORDS.values(), "begin", "inner", "ordinary"], layers=layers)


def session(
    folder: Path,
    family: str,
    train: dict[str, Any],
    tags: str,
    decode: dict[str, Any] | None = None,
    texts: dict[str, str] = WORDS,
) -> Any:
    """Return the family's session."""
    types = {name: {"words": words} for name, words in texts.items()}
    spec = RunSpec(
        dataset="d", setting="s", method="m", backbone="b", draws=(1,), types=types,
        family=family, format={"name": tags}, train=train, decoding=decode, dtype="float32", code="",
    )  # fmt: skip
    return MODULES[family].load(Job(spec, folder, device_batch=16))


def answers(made: Any, task: Task, work: Path, init: Path | None = None) -> list[list[str]]:
    """Fit and decode in ``work``."""
    made.fit(task, fit(work, init=init))
    return list(made.decode(task, work / "model"))
