"""One job: a block of draws through a family. Atomic outputs, one draw at a time, resumed after a kill.

Snakemake deletes the declared outputs of a job that was killed, so finished draws and training checkpoints
wait in a folder that it does not know, and move under their final name when the block is complete.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from fewtable.corpus import Task
from fewtable.errors import DataError
from fewtable.families.base import Fit, Job, Session
from fewtable.files import digest, dumps, locked, read_json, read_jsonl, stable_seed, write_jsonl, write_text
from fewtable.registry import find_module, validate
from fewtable.specs import RunSpec
from fewtable.training.parallel import agreed, leads, together


def read_spec(text: str) -> RunSpec:
    """Return the resolved spec of a job from JSON, or from a ``spec.json`` that a run left behind."""
    value = json.loads(text) if text.lstrip().startswith("{") else read_json(Path(text))
    return validate(RunSpec, value, "--spec")


class TrainLogFile:
    """A train log as JSON lines that grows step by step; steps logged before a kill are not doubled."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        whole = [line for line in _lines(path) if line.endswith("\n")]
        write_text(path, "".join(whole))  # a kill may have cut the last line
        self._last = json.loads(whole[-1])["step"] if whole else 0

    def __call__(self, step: int, **values: float) -> None:
        """Append one line, unless the step stands there already: a resumed training repeats it exactly."""
        if step <= self._last:
            return
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **values}) + "\n")
        self._last = step


def _unheard(step: int, **values: float) -> None:
    """Log nothing."""


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as stream:
        return list(stream)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _open_session(
    spec: RunSpec,
    backbone: Path,
    device_batch: int = 1,
    journal: Path | None = None,
    *,
    gradient_checkpointing: bool = False,
) -> Session:
    family = find_module("families", spec.family, f"{spec.method}:family")
    session: Session = family.load(Job(spec, backbone, device_batch, journal, gradient_checkpointing))
    return session


def _own_folder(folder: Path, spec: RunSpec, tasks: Sequence[Task], inputs: Sequence[Path | None]) -> None:
    """Make ``folder`` this job's own: what another spec, other sentences or other weights left there is removed."""
    stamp = folder / "job"
    listed = [_listing(path) for path in inputs if path is not None]
    text = digest([spec.model_dump(mode="json"), [asdict(task) for task in tasks], listed])
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != text:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_text(stamp, text)


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of each file: enough to tell one set of weights from the next without reading it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".snakemake_timestamp")
    return [(str(p.relative_to(folder)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]


def _without_gold(task: Task) -> Task:
    """Return the task with query sentences that tell no entity: what is asked is not known to who answers."""
    return replace(task, query=tuple(replace(sentence, entities=()) for sentence in task.query))


def train_block(
    spec: RunSpec,
    tasks: Sequence[Task],
    *,
    backbone: Path,
    init: Path | None,
    output: Path,
    checkpoint: Path,
    device_batch: int,
    gradient_checkpointing: bool = False,
) -> None:
    """Train every draw of a block and move the finished models to ``output``.

    Args:
        spec: the resolved spec; it is written to ``output/spec.json``.
        tasks: one a draw, in the order of ``spec.draws``.
        backbone: folder of the pretrained weights; that of backbone ``none`` holds none.
        init: ``model/`` folder of the run to start from; a run of one draw serves all draws.
        output: ``.../BLOCK/model``; it appears when all draws are trained.
        checkpoint: folder outside Snakemake's outputs; removed at the end.
        device_batch: most sentences a training forward holds at once.
        gradient_checkpointing: whether activations are computed again in the backward, to save memory.

    Of several processes (``training.parallel``) the leader alone writes.

    Raises:
        DataError: the tasks are not the draws of the spec, or the run to start from lacks a draw.
    """
    _check_draws(spec, tasks)
    # A job may outlive a killed workflow.
    lock = locked(checkpoint.with_name(f"{checkpoint.name}.lock")) if leads() else nullcontext()
    with together(), lock:
        if leads():
            _own_folder(checkpoint, spec, tasks, (backbone, init))
        open_session = partial(
            _open_session, spec, backbone, device_batch, gradient_checkpointing=gradient_checkpointing
        )
        _train_draws(spec, tasks, open_session, init, checkpoint)
        if not leads():
            return
        finished = checkpoint / "done"
        write_text(finished / "spec.json", dumps(spec.model_dump(mode="json")) + "\n")
        shutil.rmtree(output, ignore_errors=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        finished.rename(output)
        shutil.rmtree(checkpoint)


def _train_draws(
    spec: RunSpec,
    tasks: Sequence[Task],
    open_session: Callable[[], Session],
    init: Path | None,
    checkpoint: Path,
) -> None:
    finished = agreed([(checkpoint / "done" / str(task.draw)).exists() for task in tasks])
    left = [_without_gold(task) for task, yes in zip(tasks, finished, strict=True) if not yes]
    if not left:
        return
    session = open_session()
    together: int = getattr(session, "together", 1)
    for group in (left[first : first + together] for first in range(0, len(left), together)):
        fits = [_prepared(spec, task, init, checkpoint / str(task.draw)) for task in group]
        if len(group) == 1:
            session.fit(group[0], fits[0])
        else:
            session.fit_together(group, fits)  # type: ignore[attr-defined]  # it has said that it can
        if leads():
            for task, fit in zip(group, fits, strict=True):
                _finish(fit, checkpoint / "done" / str(task.draw))


def _prepared(spec: RunSpec, task: Task, init: Path | None, work: Path) -> Fit:
    model = work / "model"
    if leads():
        _say(f"draw {task.draw}: training on {len(task.support)} sentences")
        shutil.rmtree(model, ignore_errors=True)
        model.mkdir(parents=True)
    return Fit(
        model=model,
        checkpoint=work / "checkpoint",
        init=_init_model(init, task.draw),
        seed=stable_seed("train", spec.dataset, spec.setting, spec.method, spec.backbone, task.draw),
        log=TrainLogFile(work / "train.jsonl") if leads() else _unheard,
    )


def _finish(fit: Fit, done: Path) -> None:
    """Move a draw's model to where the finished ones wait; its log stays until then, for a kill may come between."""
    assert isinstance(fit.log, TrainLogFile)
    shutil.copyfile(fit.log.path, fit.model / "train.jsonl")
    done.parent.mkdir(exist_ok=True)
    fit.model.rename(done)
    shutil.rmtree(fit.model.parent)


def _init_model(init: Path | None, draw: int) -> Path | None:
    if init is None:
        return None
    for folder in (init / str(draw), init / "1"):
        if folder.exists():
            return folder
    raise DataError(f"the run to start from has no model of draw {draw}", where=str(init))


def _check_draws(spec: RunSpec, tasks: Sequence[Task]) -> None:
    if tuple(task.draw for task in tasks) != spec.draws:
        raise DataError(
            f"the samples hold draws {[t.draw for t in tasks]}, the job asks for {list(spec.draws)}",
            fix="remove the sample file, it was drawn for another block",
        )


def decode_block(
    spec: RunSpec,
    tasks: Sequence[Task],
    *,
    backbone: Path,
    model: Path,
    output: Path,
    checkpoint: Path,
) -> int:
    """Decode the query of every draw and write ``output`` (JSON lines: draw, id, output); return the lines.

    Raises:
        DataError: the model folder lacks a draw, or a family gave more or fewer outputs than sentences.
    """
    _check_draws(spec, tasks)
    with locked(checkpoint.with_name(f"{checkpoint.name}.lock")):
        _own_folder(checkpoint, spec, tasks, (backbone, model))
        parts = _decode_draws(spec, tasks, backbone, model, checkpoint)
        count = write_jsonl(output, (row for part in parts for _, row in read_jsonl(part)))
        shutil.rmtree(checkpoint)
    return count


def _decode_draws(spec: RunSpec, tasks: Sequence[Task], backbone: Path, model: Path, checkpoint: Path) -> list[Path]:
    session: Session | None = None
    parts = [checkpoint / f"{task.draw}.jsonl" for task in tasks]
    for task, part in zip(tasks, parts, strict=True):
        if part.exists():
            continue
        folder = model / str(task.draw)
        if not folder.exists():
            raise DataError(f"no model of draw {task.draw}", where=str(model), fix="train the block again")
        session = session or _open_session(spec, backbone, 1, checkpoint.with_name(f"{checkpoint.name}.journal"))
        _say(f"draw {task.draw}: decoding {len(task.query)} sentences")
        outputs = list(session.decode(_without_gold(task), folder))
        if len(outputs) != len(task.query):
            raise DataError(f"family '{spec.family}' gave {len(outputs)} outputs for {len(task.query)} sentences")
        write_jsonl(
            part,
            (
                {"draw": task.draw, "id": sentence.id, "output": value}
                for sentence, value in zip(task.query, outputs, strict=True)
            ),
        )
    return parts
