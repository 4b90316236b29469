"""Passages of a stream: speed of each part, and memory on a corpus and on one four times as long.

    python benchmarks/passages.py [--documents 800] [--tokenizer results/backbones/smollm2-135m]

Documents are made of real sentences where the mirror of the corpora is there, else of a few made ones. Each run is
a process of its own, whose peak memory is the kernel's. The reference way keeps all passages in a list, asks each for
its language, removes repeats with a set and calls random.sample. Prints one JSON object; fails when the long
corpus takes more than a tenth more memory than the short one.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fewtable.passages.build import build, counter
from fewtable.passages.cut import cut
from fewtable.passages.language import english
from fewtable.passages.read import documents
from fewtable.passages.spec import WORDS, PassagesSpec

MIRROR = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "gum_2017" / "train.conll"
DRAWN = 2000


def real_sentences() -> list[str]:
    if not MIRROR.exists():
        return [f"Sentence number {i} tells of a town near the sea." for i in range(500)]
    groups = MIRROR.read_text(encoding="utf-8").split("\n\n")
    return [" ".join(line.split("\t")[0] for line in group.splitlines()) for group in groups if group.strip()]


def write(path: Path, count: int) -> None:
    """Write ``count`` documents of 60 sentences, all different."""
    sentences, drawn = real_sentences(), random.Random(1)
    with path.open("w", encoding="utf-8") as stream:
        for number in range(count):
            text = " ".join(drawn.choice(sentences) for _ in range(60))
            stream.write(json.dumps({"text": f"Document {number} . {text}"}) + "\n")


def spec(path: Path, tokens: str) -> PassagesSpec:
    value = {"sources": [{"file": {"path": str(path)}}], "tokens": tokens, "passages": DRAWN}
    return PassagesSpec.model_validate(value)


def reference(made: PassagesSpec, backbone: Path | None) -> int:
    count, is_english = counter(made, backbone), english()
    found = (p for d in documents(made.sources[0], Path()) for p in cut(d, count, made.max_tokens))
    left = [p for p in found if p.tokens >= made.min_tokens and is_english(p.text)]
    texts = sorted({p.text for p in left})
    return len(random.Random(made.seed).sample(texts, min(made.passages, len(texts))))


def job(kind: str, path: Path, backbone: Path | None) -> None:
    made = spec(path, WORDS if backbone is None else "backbone")
    started = time.process_time()
    kept = len(build(made, Path(), counter(made, backbone))[0]) if kind == "ours" else reference(made, backbone)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"kept": kept, "cpu_s": round(seconds, 2), "peak_mb": round(peak, 1)}))


def run(kind: str, path: Path, backbone: Path | None) -> dict[str, float]:
    command = [sys.executable, __file__, "--job", kind, str(path)]
    command += ["--tokenizer", str(backbone)] if backbone else []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=800)
    parser.add_argument("--tokenizer", type=Path, help="folder of a backbone that counts; words do, where left out")
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        job(args.job[0], Path(args.job[1]), args.tokenizer)
        return
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder, "short.jsonl"), Path(folder, "long.jsonl")
        write(short, args.documents)
        write(long, 4 * args.documents)
        found = {kind: {p.stem: run(kind, p, args.tokenizer) for p in (short, long)} for kind in ("ours", "reference")}
        size = long.stat().st_size / 1e6
    ours, other = found["ours"], found["reference"]
    growth = ours["long"]["peak_mb"] / ours["short"]["peak_mb"]
    report = {
        **found,
        "mb_per_cpu_s": round(size / ours["long"]["cpu_s"], 2),
        "faster": round(other["long"]["cpu_s"] / ours["long"]["cpu_s"], 2),
        "memory_growth": round(growth, 3),
        "reference_growth": round(other["long"]["peak_mb"] / other["short"]["peak_mb"], 3),
    }
    print(json.dumps(report, indent=1))
    if ours["long"]["kept"] != other["long"]["kept"] or growth > 1.1:
        sys.exit("memory grows, or the draws differ in size")


if __name__ == "__main__":
    main()
