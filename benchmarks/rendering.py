"""UniversalNER's training data: 50,000 annotated passages rendered as conversations and tokenised.

    python benchmarks/rendering.py [--passages 50000] [--output FILE.json]

The passages are those that the embedded teacher annotated (`results/annotations/spacy-sm/open-sentences`, made when
missing), over and over until there are enough; each is asked for its types and as many negative ones. The other side is
the released code's way of masking: the conversation is tokenised whole, and each of its turns once more for its length.
CPU seconds of the process.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("RAYON_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from transformers import AutoTokenizer

from fewtable.corpus import read_sentences
from fewtable.families._dialogue import Dialogue
from fewtable.files import write_json
from fewtable.formats.base import Example
from fewtable.formats.dialogue import parts, text
from fewtable.predictions import make_format, task_types

ANNOTATIONS = Path("results/annotations/spacy-sm/open-sentences/annotations.jsonl")
WEIGHTS = Path("results/backbones/smollm2-135m")


def taken(side: Callable[[], Any]) -> float:
    """Return the CPU seconds of a call."""
    start = time.process_time()
    side()
    return time.process_time() - start


def released(tokenizer: Any, examples: Sequence[Example]) -> None:
    """Tokenise as FastChat's preprocessing does: the whole text, then each turn and question for the mask."""
    for example in examples:
        tokenizer(text(example, "ie-as-qa", tokenizer.eos_token))
        for part in parts(example, "ie-as-qa"):
            tokenizer(part.head + part.answer)
            tokenizer(part.head)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=50_000)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if missing := [str(path) for path in (ANNOTATIONS, WEIGHTS) if not path.exists()]:
        snakemake = str(Path(sys.executable).with_name("snakemake"))
        subprocess.run([snakemake, "--cores", "1", "--quiet", "all", "--", *missing], check=True)
    sentences = list(itertools.islice(itertools.cycle(read_sentences(ANNOTATIONS)), args.passages))
    form = make_format({"name": "uniner"}, task_types((), sorted({e.type for s in sentences for e in s.entities})))
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    examples: list[Example] = []
    seconds = {
        "rendering": taken(lambda: examples.extend(form.examples(sentences, 1))),
        "tokenising": taken(lambda: Dialogue(tokenizer, "ie-as-qa", 1024).rows(examples)),
        "tokenising, released way": taken(lambda: released(tokenizer, examples)),
    }
    turns = sum(len(example.before) for example in examples)
    result = {"passages": len(examples), "questions": turns, "cpu_seconds": seconds}
    ours, theirs = seconds["tokenising"], seconds["tokenising, released way"]
    print(f"{len(examples):,} passages, {turns:,} questions: {seconds['rendering'] + ours:.1f} CPU seconds in all")
    print(f"tokenising against the released way: {theirs / ours:.2f}x")
    if args.output:
        write_json(args.output, result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
