"""What it costs to hold answers to the sentence: equal forwards, free and held choices of the next token.

    python benchmarks/constrained.py [--model results/backbones/smollm2-135m] [--random] [--device cpu]
                                     [--sentences 8] [--size 16] [--limit 48] [--rounds 3] [--threads 1]
                                     [--mirror ../shared/data] [--output FILE.json]

MIT Restaurant's test sentences in OBP-LLM's words, one question a type; the model as it comes, or (``--random``) one of
its shape with random weights, which needs its ``config.json`` and tokenizer alone. Held answers end early and free ones
ramble on, so both sides write the held answers: the free one chooses among the whole vocabulary, and is then told what
to go on with. The sides take turns; what choosing takes is measured within each. What is found about a sentence is
found anew in every round, as in a run. CPU seconds of the process, or wall seconds on a GPU.

First a truly free run: an answer of it that lies inside the language must be the held one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from fewtable.available import DEFAULT_MIRROR
from fewtable.corpus import EntityType, Sentence
from fewtable.data.normalise import normalise
from fewtable.decoding import greedy
from fewtable.decoding.constrained import vocabulary
from fewtable.decoding.copied_spans import CopiedSpans
from fewtable.families._dialogue import Answering, Dialogue
from fewtable.files import write_json
from fewtable.formats._surfaces import mentions
from fewtable.formats.brackets import FORMAT, Options
from fewtable.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
DATASET = "mit-restaurant"


class Told(greedy._Batch):
    """A batch that chooses freely and goes on with the answers that it is told."""

    told: Iterator[Sequence[int]]
    stop: int

    def run(self) -> list[list[int]]:
        """Return the answers, which are those told."""
        self._told = [[*next(self.told), self.stop] for group in self._groups for _ in group]
        return super().run()

    def _best(self, scores: torch.Tensor, answers: Sequence[Sequence[int]], going: Sequence[int]) -> list[int]:
        super()._best(scores, answers, going)
        return [self._told[row][len(answer)] for row, answer in zip(going, answers, strict=True)]


def inside(language: Any, text: str) -> bool:
    """Return whether a text is an answer of a language."""
    state = language.start
    for byte in text.encode():
        state = language.following(state).get(byte)
        if state is None:
            return False
    return language.shortest(state) == 0


class Watch:
    """What choosing the next tokens took, of all that answering took."""

    def __init__(self, device: str) -> None:
        self._clock = time.process_time if device == "cpu" else time.perf_counter
        self._device = device
        self.steps, self.choosing = 0, 0.0

    def now(self) -> float:
        """Return CPU seconds of the process, or wall seconds once the GPU is done."""
        if self._device == "cuda":
            torch.cuda.synchronize()
        return self._clock()

    def of(self, side: Any) -> tuple[float, float, int]:
        """Return the seconds of a side, those of its choices, and the number of its steps."""
        plain = greedy._Batch._best
        self.steps, self.choosing = 0, 0.0

        def best(*given: Any) -> list[int]:
            start = self.now()
            found = plain(*given)
            self.choosing += self.now() - start
            self.steps += 1
            return found

        greedy._Batch._best = best  # type: ignore[method-assign]
        start = self.now()
        try:
            side()
        finally:
            greedy._Batch._best = plain  # type: ignore[method-assign]
        return self.now() - start, self.choosing, self.steps


def load(folder: Path, device: str, *, random: bool) -> Any:
    """Return the model, float32 on a CPU and bfloat16 on a GPU."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    if random:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=dtype)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return model.eval().to(device)


def corpus(mirror: Path, count: int) -> tuple[list[EntityType], list[Sentence]]:
    """Return the types and the first sentences of the test split."""
    spec = Registry(ROOT / "config").dataset(DATASET)
    raw = {file: mirror / (spec.files[file].mirror or "?") for file in spec.splits["test"].files}
    types = [EntityType(n, t.words, t.definition) for n, t in spec.types.items()]
    return types, normalise(DATASET, spec, "test", raw)[:count]


class Sides:
    """The prompts of some sentences, and their answers in two ways."""

    def __init__(self, args: argparse.Namespace) -> None:
        types, self.sentences = corpus(args.mirror, args.sentences)
        self.form = FORMAT(types, Options())
        self.tokenizer = AutoTokenizer.from_pretrained(args.model)
        self.model = load(args.model, args.device, random=args.random)
        self.dialogue = Dialogue(self.tokenizer, "bare", 2048)
        self.prompts = [[self.dialogue.prompt(question) for question in self.form.render(s)] for s in self.sentences]
        self.options = Answering(copied=True, batch_size=args.size, max_new_tokens=args.limit)
        start = time.perf_counter()
        vocabulary(self.tokenizer)
        print(f"vocabulary of {len(self.tokenizer)} tokens: {time.perf_counter() - start:.2f} s, once", flush=True)
        self.held = self.answers(held=True)

    def answers(self, *, held: bool) -> list[list[list[int]]]:
        """Return the answers to all prompts."""
        holds = self.dialogue._held(self.prompts, self.form, self.options, self.sentences) if held else None
        size, limit = self.options.batch_size, self.options.max_new_tokens
        return greedy.answer(self.model, self.prompts, size, limit, self.dialogue.end, (), holds)

    def equal(self) -> int:
        """Return how many free answers lie inside the language; assert that these are the held ones."""
        count = 0

        def text(ids: Sequence[int]) -> str:
            return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))

        for sentence, lefts, rights in zip(self.sentences, self.answers(held=False), self.held, strict=True):
            language = CopiedSpans(sentence.words, sentence.glued, "", lambda s, w=sentence.words: len(mentions(w, s)))
            for left, right in zip(lefts, rights, strict=True):
                assert inside(language, text(right))
                if len(left) < self.options.max_new_tokens and inside(language, text(left)):
                    assert left == right
                    count += 1
        return count

    def free(self) -> None:
        """Write the held answers, choosing freely."""
        size = self.options.batch_size
        # Prompts are answered in a layout of their own, which what is told follows.
        order = [place for batch in greedy.batches(self.prompts, size) for part in batch for place in part]
        Told.told = iter([self.held[g][n] for g, n in order])
        Told.stop = self.dialogue.end
        plain, greedy._Batch = greedy._Batch, Told  # type: ignore[misc]
        try:
            assert self.answers(held=False) == self.held
        finally:
            greedy._Batch = plain  # type: ignore[misc]

    def hold(self) -> None:
        """Write the held answers, held."""
        assert self.answers(held=True) == self.held


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "results/backbones/smollm2-135m")
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    for name, value in (("sentences", 8), ("size", 16), ("limit", 48), ("rounds", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--mirror", type=Path, default=ROOT / DEFAULT_MIRROR)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    made = Sides(args)
    equal = made.equal()
    watch, sides = Watch(args.device), {"free": made.free, "held": made.hold}
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in sides}
    for number in range(args.rounds):
        for name in sides if number % 2 else reversed(sides):
            found[name].append(watch.of(sides[name]))
    tokens = sum(len(answer) + 1 for group in made.held for answer in group)
    print(f"{sum(map(len, made.prompts))} answers of {tokens} tokens in batches of {args.size} on {args.device};")
    print(f"{equal} truly free answers lie inside the language, and are the held ones")
    for name, rounds in found.items():
        whole, choosing = (statistics.median(r[part] / r[2] for r in rounds) for part in (0, 1))
        print(
            f"{name}: {1000 * whole:.2f} ms a step, {1000 * choosing:.3f} ms of it to choose ({choosing / whole:.2%})"
        )
    if args.output:
        write_json(args.output, {"rounds": found, "tokens": tokens, "equal": equal, "device": args.device})


if __name__ == "__main__":
    main()
