"""What InstructionNER's format cannot express: render and parse every sentence of every corpus, count by cause.

    python benchmarks/round_trip.py [--mirror ../shared/data]

A sentence that does not come back, and that no cause explains, is printed and fails the run.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from fewtable.available import DEFAULT_MIRROR
from fewtable.corpus import EntityType, Sentence
from fewtable.data.normalise import normalise
from fewtable.formats.instructionner import FORMAT, Options, occurrences
from fewtable.registry import Registry

MODES = ("paper", "robust")
ROOT = Path(__file__).resolve().parents[1]


def cause(sentence: Sentence, mode: str) -> str | None:
    """Return why the format cannot carry a sentence's entities, or None where nothing excuses it."""
    spans = [e[:2] for e in sentence.entities]
    if len(set(spans)) < len(spans):
        return "two types on one span"
    surfaces = {" ".join(sentence.words[start:end]) for start, end in spans}
    if mode == "paper" and any("," in surface for surface in surfaces):
        return "a comma in a surface"
    for surface in surfaces:
        found = occurrences(sentence.words, surface)
        taken = [span for span in found if span in spans]
        if found[: len(taken)] != taken:
            return "an earlier occurrence of a surface is no entity"
    return None


def lost(sentences: Sequence[Sentence], types: Sequence[EntityType], mode: str, labels: str) -> Iterator[Sentence]:
    """Yield the sentences whose entities do not come back, or of whose answer something is dropped."""
    form = FORMAT(types, Options.model_validate({"parse": mode, "labels": labels}))
    for sentence in sentences:
        parsed = form.parse(sentence.words, form.render(sentence)[0].target)
        if (parsed.entities, parsed.dropped) != (sentence.entities, ()):
            yield sentence


def corpora(registry: Registry, mirror: Path) -> Iterator[tuple[str, list[EntityType], list[Sentence]]]:
    """Yield (dataset/split, types, sentences) of every split whose files the mirror has, each set of files once."""
    seen: set[tuple[object, ...]] = set()
    for name in registry.names("datasets"):
        spec = registry.dataset(name)
        types = [EntityType(n, t.words, t.definition) for n, t in spec.types.items()]
        for split, part in spec.splits.items():
            raw = {file: mirror / (spec.files[file].mirror or "?") for file in part.files}
            key = (*raw.values(), part.part, tuple(spec.types), tuple(spec.drop))
            if key not in seen and all(path.exists() for path in raw.values()):
                seen.add(key)
                yield f"{name}/{split}", types, normalise(name, spec, split, raw)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", type=Path, default=ROOT / DEFAULT_MIRROR, help="folder with the raw corpora")
    parser.add_argument("--labels", choices=("words", "tokens"), default="words")
    arguments = parser.parse_args()
    if not arguments.mirror.is_dir():
        print(f"skipped: the folder {arguments.mirror} is not there; name one with --mirror")
        return 0
    counts: Counter[tuple[str, str]] = Counter()
    places: dict[str, Counter[str]] = {}
    splits = sentences = entities = unexplained = 0
    for place, types, found in corpora(Registry(ROOT / "config"), arguments.mirror):
        splits, sentences = splits + 1, sentences + len(found)
        entities += sum(len(s.entities) for s in found)
        for mode in MODES:
            for sentence in lost(found, types, mode, arguments.labels):
                if why := cause(sentence, mode):
                    counts[why, mode] += 1
                    places.setdefault(why, Counter())[place.partition("/")[0]] += 1
                else:
                    unexplained += 1
                    print(f"{place} {mode}: {sentence}", file=sys.stderr)
    print(f"{splits} splits, {sentences:,} sentences, {entities:,} entities\n")
    print("| sentences that do not come back | paper | robust | most in |\n|---|---|---|---|")
    for why in sorted(places):
        most = ", ".join(f"{name}" for name, _ in places[why].most_common(3))
        print(f"| {why} | {counts[why, 'paper']:,} | {counts[why, 'robust']:,} | {most} |")
    print(f"| unexplained | {unexplained} in both | | |")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
