"""template-ner's search against scoring every statement, on one model in one process: equal statements, then time.

    python benchmarks/template.py [--sentences 16] [--steps 60] [--expanded] [--threads 1] [--output FILE.json]

A random BART of bart-base's shape (6 + 6 layers, 768 wide, 50265 pieces, fp32) and real MIT Restaurant sentences,
spelled by a BPE learned from the training sentences. Timed against ours:

- released: as inference.py of the released code, for each start one forward of the whole model over all statements of
  all spans that begin there, the sentence repeated for each, logits of every position, a softmax a position;
- expanded (on demand): the same with the encoder run once a sentence and its states expanded.

All is done twice: with the random weights, where no statement stands out and so every one must be scored (ours gains by
sharing alone), and after some steps of training on sentences that are not asked, which is when the method is used.
CPU seconds; ratios over batches of sentences.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutput

from fewtable.corpus import Sentence, Task
from fewtable.data.normalise import normalise
from fewtable.decoding.generate import layout, pad
from fewtable.decoding.template import Candidate, resolve
from fewtable.families import template
from fewtable.families.base import Fit, Job
from fewtable.files import write_json
from fewtable.registry import Registry
from fewtable.specs import RunSpec
from fewtable.training.template import spans

ROOT = Path(__file__).resolve().parents[1]
PIECES = 50265
BATCH = 8
Found = list[list[Candidate]]


def backbone(folder: Path, sentences: Sequence[Sentence], types: Sequence[str], layers: int, width: int) -> None:
    """Write the random BART and its tokenizer, which has a piece for each word of a template, as BART's has."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    learner = trainers.BpeTrainer(
        vocab_size=2500, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    words = [" " + " ".join(s.words) for s in sentences]
    inner.train_from_iterator([*words, *([" is an a not named entity . " + " ".join(types)] * 1000)], learner)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=inner, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=PIECES, d_model=width, encoder_layers=layers, decoder_layers=layers, decoder_ffn_dim=4 * width,
        encoder_ffn_dim=4 * width, encoder_attention_heads=width // 64, decoder_attention_heads=width // 64,
        max_position_embeddings=1024, decoder_start_token_id=2,
    )  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(folder)


def session(folder: Path, types: dict[str, str], steps: int) -> Any:
    """Return the family's session."""
    spec = RunSpec(
        dataset="mit-restaurant", setting="10-shot", method="template-ner", backbone="random", draws=(1,),
        types={n: {"words": w} for n, w in types.items()}, family="template", format={"name": "template"},
        train={"epochs": 1, "min_steps": steps, "batch_size": 16, "lr": 3e-4, "weight_decay": 0.0, "negatives": 1.0},
        decoding={"batch_size": BATCH}, dtype="float32", code="",
    )  # fmt: skip
    return template.load(Job(spec, folder, device_batch=32))


def ours(made: Any, model: Any, task: Task, sentences: Sequence[Sentence]) -> Found:
    """Return the best statement of every span by the search."""
    _, tails = made.tails(task)
    pieces = [made._pieces(s.words) for s in sentences]
    texts = [made.text(words, tails) for words in pieces]
    return list(made.best(model, [made.source(words) for words in pieces], texts, tails))


def enumerated(made: Any, model: Any, task: Task, sentences: Sequence[Sentence], *, expand: bool) -> Found:
    """Return the best statement of every span by scoring all statements, one start a forward."""
    form = made._format(task)
    tails = [form.tail(kind) for kind in (None, *task.types)]
    found = []
    for sentence in sentences:
        source = torch.tensor([made.source(made._pieces(sentence.words))])
        states = model.get_encoder()(input_ids=source).last_hidden_state if expand else None
        candidates = []
        for start in range(len(sentence.words)):
            ends = [end for begin, end in spans(len(sentence.words), 8) if begin == start]
            texts = [made._ended(made._pieces((*sentence.words[start:e], *t))) for e in ends for t in tails]
            labels, real = pad(texts, model.config.pad_token_id, left=False)
            given: dict[str, Any] = {"input_ids": source.expand(len(texts), -1)}
            if states is not None:
                given = {"encoder_outputs": BaseModelOutput(states.expand(len(texts), -1, -1))}
            shifted = model.prepare_decoder_input_ids_from_labels(labels=labels)
            logits = model(**given, decoder_input_ids=shifted, use_cache=False).logits
            scores = torch.zeros(len(texts))
            for place in range(labels.shape[1]):
                chosen = logits[:, place].log_softmax(-1).gather(1, labels[:, place : place + 1])[:, 0]
                scores += chosen * real[:, place]
            for end, row in zip(ends, scores.view(len(ends), -1), strict=True):
                candidates.append(Candidate(start, end, int(row.argmax()), float(row.max())))
        found.append(candidates)
    return found


def check(ours: Found, theirs: Found) -> int:
    """Assert the same statement for every span, the same score but for rounding, the same entities; return these."""
    entities = 0
    for a, b in zip(ours, theirs, strict=True):
        assert [c[:3] for c in a] == [c[:3] for c in b]
        assert max(abs(x.score - y.score) for x, y in zip(a, b, strict=True)) < 1e-3
        kept = [c[:3] for c in resolve(a, per_start=False)]
        assert kept == [c[:3] for c in resolve(b, per_start=False)]
        entities += len(kept)
    return entities


def compare(sides: dict[str, Callable[[Sequence[Sentence]], Found]], batches: list[list[Sentence]]) -> dict[str, Any]:
    """Time the sides on each batch in turn and assert that they find the same."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    entities = 0
    with torch.inference_mode():
        for side in sides.values():
            side(batches[0][:1])  # warms up
        for batch in batches:
            answers = {}
            for name, side in sides.items():
                start = time.process_time()
                answers[name] = side(batch)
                seconds[name].append(time.process_time() - start)
            for answer in answers.values():
                found = check(answers["ours"], answer)
            entities += found
    result: dict[str, Any] = {"entities": entities, "cpu_seconds": {n: round(sum(s), 1) for n, s in seconds.items()}}
    for name in sides:
        if name != "ours":
            ratios = [b / a for a, b in zip(seconds["ours"], seconds[name], strict=True)]
            result[f"ratio_{name}"] = {
                "min": round(min(ratios), 1), "median": round(statistics.median(ratios), 1),
                "max": round(max(ratios), 1), "whole": round(sum(seconds[name]) / sum(seconds["ours"]), 1),
            }  # fmt: skip
    return result


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--expanded", action="store_true", help="time the second reference way too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mirror", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    spec = Registry(ROOT / "config").dataset("mit-restaurant")
    raw = {name: options.mirror / str(file.mirror) for name, file in spec.files.items()}
    learned = normalise("mit-restaurant", spec, "train", raw)
    asked = normalise("mit-restaurant", spec, "test", raw)[: options.sentences]
    types = {name: t.words for name, t in spec.types.items()}
    task = Task(1, tuple(types), tuple(learned[:100]), ())
    batches = [[asked[i] for i in part] for part in layout([len(s.words) for s in asked], BATCH)]
    result: dict[str, Any] = {"threads": options.threads, "sentences": len(asked)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backbone(folder / "bart", learned, tuple(types.values()), options.layers, options.width)
        made = session(folder / "bart", types, options.steps)
        losses: list[float] = []
        (folder / "trained").mkdir()
        fit = Fit(folder / "trained", folder / "none", None, 1, lambda step, loss, lr: losses.append(round(loss, 2)))
        made.fit(task, fit)
        result["loss"] = {"first": losses[0], "last": losses[-1]}
        for key, place in (("trained", "trained"), ("random", "bart")):
            model = made.model(folder / place, "float32")
            sides: dict[str, Callable[[Sequence[Sentence]], Found]] = {
                "ours": lambda part, m=model: ours(made, m, task, part),
                "released": lambda part, m=model: enumerated(made, m, task, part, expand=False),
            }
            if options.expanded:
                sides["expanded"] = lambda part, m=model: enumerated(made, m, task, part, expand=True)
            result[key] = compare(sides, batches)
            print(json.dumps({key: result[key]}), flush=True)
    print(json.dumps(result))
    if options.output:
        write_json(options.output, result)


if __name__ == "__main__":
    main()
