"""Episodes an hour of NNShot, StructShot and ProtoBERT against the released Few-NERD code's way, on one encoder.

    python benchmarks/episodes.py [--episodes 50] [--every 1] [--setting 5-way-1-shot] [--methods NAME ...]

Real episodes of Few-NERD inter's test split, drawn by our sampler, on MiniLM (`snakemake results/backbones/minilm` gets
it). Timed against ours, which is fit and decode of the family as a job runs them:

- released: as util/data_loader.py, model/nnshot.py, model/proto.py and util/viterbi.py of thunlp/Few-NERD. Each episode
  by itself: words tokenised one by one, sentences padded to the largest length (64 pieces with 1 shot, 32 with 5, as in
  its README), support and query encoded in a forward each, distances of all pieces by broadcasting (query, support,
  size), a loop over classes, and a sentence after the other through Viterbi, step by step in torch.

Where the released code would answer otherwise it does here as ours: long sentences are cut at words, and Viterbi goes
over words, not pieces (which saves it time). The answers are asserted to be equal. CPU seconds, after one warm-up
episode of each side; sides take turns episode by episode. The episodes are those of one job, in which ours encodes a
sentence that comes again once; the share of distinct sentences is printed. With ``--every`` the released way, whose
episodes do not depend on each other, is timed on each n-th alone.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from fewtable.corpus import Sentence, Task, build_tasks, entities_to_tags, write_sentences
from fewtable.data.normalise import normalise
from fewtable.decoding.transitions import Counts, count, expand, log_floored
from fewtable.families import token_metric
from fewtable.families.base import Fit, Job
from fewtable.files import write_json
from fewtable.registry import Registry
from fewtable.sampling.drawing import draw_all
from fewtable.specs import RunSpec
from fewtable.training.encoder import Encoder

ROOT = Path(__file__).resolve().parents[1]
DATASET = "fewnerd-inter-open"
SOURCE = 2000
"""Sentences that transitions are counted on."""
METHODS: dict[str, tuple[str, float | None]] = {
    "protobert": ("prototype", None), "nnshot": ("nearest", None), "structshot": ("nearest", 0.32),
}  # fmt: skip


class Released:
    """The released way, over the weights and the tokenizer of ``encoder``."""

    def __init__(self, encoder: Encoder, length: int, counts: Counts) -> None:
        self._model: Any = encoder.model
        self._tokenizer: Any = encoder._tokenizer
        self._length = length
        self._counts = counts

    def episode(self, task: Task, head: str, tau: float | None) -> list[list[str]]:
        """Return the tags of the query's words."""
        names = ["O", *task.types]
        number = {name: index for index, name in enumerate(names)}
        support, query = (self._populate(part, number) for part in (task.support, task.query))
        s_states, q_states = self._encode(support), self._encode(query)
        tags = torch.cat(support["label"])
        known = s_states[support["text"] == 1]
        asked = q_states[query["text"] == 1]
        if head == "prototype":
            columns = torch.stack([known[tags == label].mean(0) for label in range(len(names))])
            logits = -torch.pow(columns[None] - asked[:, None], 2).sum(2)
        else:
            distances = -torch.pow(known[None] - asked[:, None], 2).sum(2)
            columns = [distances[:, tags == label].max(1)[0] for label in range(len(names))]
            logits = torch.stack(columns, dim=1)
        first = torch.cat(query["label"]) != -1
        words = [len(w) for w in query["words"]]
        rows = torch.split(logits[first], words)
        found = [self._path(r, tau) if tau is not None else r.argmax(-1).tolist() for r in rows]
        answers = []
        for sentence, places, path in zip(task.query, query["words"], found, strict=True):
            line = ["O"] * len(sentence.words)
            for place, label in zip(places, path, strict=True):
                line[place] = names[label]
            answers.append(line)
        return answers

    def _populate(self, sentences: Sequence[Sentence], number: dict[str, int]) -> dict[str, Any]:
        """Tokenise word by word, cut into chunks and pad each to the largest length."""
        data: dict[str, Any] = {"ids": [], "mask": [], "text": [], "label": [], "words": []}
        for sentence in sentences:
            tags = entities_to_tags(sentence.entities, len(sentence.words), "io")
            chunks: list[tuple[list[str], list[int]]] = [([], [])]
            places = []
            for place, (word, tag) in enumerate(zip(sentence.words, tags, strict=True)):
                pieces = self._tokenizer.tokenize(word)[: self._length - 2]
                if not pieces:
                    continue
                places.append(place)
                if len(chunks[-1][0]) + len(pieces) > self._length - 2:
                    chunks.append(([], []))
                chunks[-1][0].extend(pieces)
                chunks[-1][1].extend([number[tag]] + [-1] * (len(pieces) - 1))
            data["words"].append(places)
            for pieces, labels in chunks:
                ids = self._tokenizer.convert_tokens_to_ids(["[CLS]", *pieces, "[SEP]"])
                size = len(ids)
                while len(ids) < self._length:
                    ids.append(0)
                data["ids"].append(ids)
                data["mask"].append([1] * size + [0] * (self._length - size))
                data["text"].append([0] + [1] * (size - 2) + [0] * (self._length - size + 1))
                data["label"].append(torch.tensor(labels))
        return data | {name: torch.tensor(data[name]) for name in ("ids", "mask", "text")}

    def _encode(self, data: dict[str, Any]) -> torch.Tensor:
        with torch.no_grad():
            output = self._model(data["ids"], attention_mask=data["mask"], output_hidden_states=True)
        layers = torch.cat([state.unsqueeze(0) for state in output.hidden_states[-4:]], 0)
        summed: torch.Tensor = layers.sum(0)
        return summed

    def _path(self, logits: torch.Tensor, tau: float) -> list[int]:
        """Go through one sentence as util/viterbi.py does; the start is a row of its own there and here."""
        start, table = (torch.from_numpy(log_floored(p)) for p in expand(self._counts, logits.shape[1] - 1, tau))
        scores = logits.double().log_softmax(-1).unsqueeze(0)
        features = table.expand(1, len(logits), -1, -1) + scores.unsqueeze(2)
        delta = start + scores[:, 0]
        deltas = [delta]
        for step in range(1, len(logits)):
            now = features[:, step]
            delta, _ = torch.max(now + delta.unsqueeze(2).expand_as(now), 1)
            deltas.append(delta)
        path = [torch.argmax(deltas[-1], 1, keepdim=True)]
        for step in reversed(range(len(logits) - 1)):
            before = features[:, step + 1].gather(2, path[-1].unsqueeze(2).expand(1, len(start), 1)).squeeze(2)
            path.append(torch.argmax(before + deltas[step], 1, keepdim=True))
        path.reverse()
        found: list[int] = torch.cat(path, dim=1)[0].tolist()
        return found


def session(backbone: Path, head: str, tau: float | None, window: int) -> Any:
    """Return the family's session, with transitions of the source."""
    train = {"head": head, "layers": "sum4", "normalise": False, "window": window, "transitions": "source"}
    spec = RunSpec(
        dataset=DATASET, setting="s", method="m", backbone="b", draws=(1,), types={}, family="token-metric",
        format={"name": "io"}, train=train, decoding={"tau": tau}, dtype="float32", code="",
    )  # fmt: skip
    return token_metric.load(Job(spec, backbone, device_batch=16))


def ours(made: Any, task: Task, init: Path, work: Path) -> list[list[str]]:
    """Fit and decode a draw as a job does."""
    model = work / str(task.draw)
    model.mkdir(parents=True)
    made.fit(task, Fit(model, work / "none", init, 1, lambda step, **values: None))
    return list(made.decode(task, model))


def compare(
    methods: Sequence[str], backbone: Path, tasks: Sequence[Task], init: Path, length: int, counts: Counts, every: int
) -> dict[str, Any]:
    """Time both sides on the same episodes, method by method."""
    result: dict[str, Any] = {}
    for name in methods:
        head, tau = METHODS[name]
        with tempfile.TemporaryDirectory() as folder:
            made = session(backbone, head, tau, length)
            made._words.start(init)
            released = Released(made._words.encoder, length, counts)
            ours(made, tasks[-1], init, Path(folder) / "warm")
            made._words.changed()
            released.episode(tasks[-1], head, tau)
            seconds = {"ours": 0.0, "released": 0.0}
            words = differ = 0
            for number, task in enumerate(tasks):
                begin = time.process_time()
                found = ours(made, task, init, Path(folder))
                seconds["ours"] += time.process_time() - begin
                if number % every:
                    continue
                begin = time.process_time()
                expected = released.episode(task, head, tau)
                seconds["released"] += time.process_time() - begin
                words += sum(map(len, expected))
                differ += sum(a != b for x, y in zip(found, expected, strict=True) for a, b in zip(x, y, strict=True))
        assert differ <= words / 10_000, f"{name}: {differ} of {words} words differ"
        seconds["released"] *= len(tasks) / len(range(0, len(tasks), every))
        result[name] = {
            "seconds": {side: round(value, 2) for side, value in seconds.items()},
            "episodes_an_hour": {side: round(3600 * len(tasks) / value) for side, value in seconds.items()},
            "ratio": round(seconds["released"] / seconds["ours"], 2),
            "words": words,
            "differ": differ,
        }
        print(json.dumps({name: result[name]}), flush=True)
    return result


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--setting", default="5-way-1-shot")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backbone", type=Path, default=ROOT / "results" / "backbones" / "minilm")
    parser.add_argument("--mirror", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    registry = Registry(ROOT / "config")
    spec, setting = registry.dataset(DATASET), registry.setting(options.setting)
    raw = {name: options.mirror / str(file.mirror) for name, file in spec.files.items()}
    asked = normalise(DATASET, spec, "test", raw)
    source = normalise(DATASET, spec, "train", raw)[:SOURCE]
    samples = draw_all(setting, DATASET, tuple(spec.types), asked, asked, range(1, options.episodes + 1))
    length = 64 if "1-shot" in options.setting else 32
    with tempfile.TemporaryDirectory() as name:
        init = Path(name) / "source"
        init.mkdir()
        write_sentences(Path(name) / "test.jsonl", asked)
        tasks = build_tasks(samples, {"test": Path(name) / "test.jsonl"})
        made = session(options.backbone, "nearest", None, length)
        made._words.encoder.save(init)
        token_metric.write_counts(init, count(source))
        texts = [s.words for t in tasks for s in (*t.support, *t.query)]
        result = {
            "threads": options.threads, "setting": options.setting, "episodes": len(tasks),
            "sentences_an_episode": round(len(texts) / len(tasks), 1),
            "distinct": round(len(set(texts)) / len(texts), 3),
        }  # fmt: skip
        print(json.dumps(result), flush=True)
        result |= compare(options.methods, options.backbone, tasks, init, length, count(source), options.every)
    print(json.dumps(result))
    if options.output:
        write_json(options.output, result)


if __name__ == "__main__":
    main()
