"""One draw, or the draws of a block, by whatever rule a setting names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from fewtable.corpus import Sample, Sentence, read_sentences
from fewtable.errors import DataError
from fewtable.files import sha256_file, stable_seed
from fewtable.registry import validate
from fewtable.sampling import (
    capped,
    episodes,
    exact,
    greedy,
    greedy_prune,
    mini_including,
    per_type,
    whole,
)
from fewtable.sampling.header import sample_header
from fewtable.sampling.pool import Choice, Drawer, Pool
from fewtable.sampling.pooled import episodes_of, pooled
from fewtable.specs import DrawSpec, QuerySpec, SamplerSpec, SampleSpec

RULES: dict[str, Callable[[Pool, SamplerSpec], Drawer]] = {
    "all": whole.prepare,
    "none": whole.prepare,
    "greedy": greedy.prepare,
    "greedy-prune": greedy_prune.prepare,
    "capped": capped.prepare,
    "exact": exact.prepare,
    "per-type": per_type.prepare,
    "episodes": episodes.prepare,
    "mini-including": mini_including.prepare,
}


def draw(
    spec: DrawSpec,
    dataset: str,
    types: Sequence[str],
    support: Sequence[Sentence],
    query: Sequence[Sentence],
    draw: int,
) -> Sample:
    """Draw one sample; see draw_all, which costs less for several."""
    return draw_all(spec, dataset, types, support, query, [draw])[0]


def draw_all(
    spec: DrawSpec,
    dataset: str,
    types: Sequence[str],
    support: Sequence[Sentence],
    query: Sequence[Sentence],
    draws: Sequence[int],
) -> list[Sample]:
    """Draw a sample for each number in ``draws``.

    A sample depends on the sentences (not their order), the types, the dataset's name, the sampler, the support
    split's name and the draw's number: not on the other draws, the process, the machine or PYTHONHASHSEED.

    Args:
        spec: the setting.
        dataset: the dataset's name, a part of the seed.
        types: the dataset's types; tasks list theirs in this order.
        support: all sentences of the split ``spec.support`` (none are needed for the rule ``none``).
        query: all sentences of the split ``spec.query.split``; episodes take their query from ``support``.
        draws: the numbers of the draws, from 1.

    A type that only the query has (ATIS has four) stays in the task, cannot be learnt, and stands in the header
    under ``unseen``.

    Raises:
        DataError: there are no sentences, a type has no mention at all, or the solver proved nothing in time.
    """
    if not support and spec.sampler.rule != "none":
        raise DataError(f"the split '{spec.support}' of '{dataset}' has no sentences", fix="mend its file")
    pool = Pool(support, types)
    unseen = _unseen(pool, query) if spec.sampler.rule != "none" and not spec.episodic else []
    if unseen:
        pool = Pool(support, [name for name in types if name not in unseen])
    drawer = RULES[spec.sampler.rule](pool, spec.sampler)
    asked = [] if spec.episodic else _asked(query, spec.query, dataset, len(types))

    def one(number: int) -> Sample:
        return _sample(spec, dataset, types, pool, drawer, asked, number)

    if size := spec.sampler.pool:
        index = {sentence.id: sentence for sentence in support}
        return [pooled(number, list(map(one, episodes_of(number, size))), types, index) for number in draws]
    samples = list(map(one, draws))
    for sample in samples if unseen else ():
        sample.header["unseen"] = unseen
    return samples


def draw_block(made: SampleSpec, data: Path) -> list[Sample]:
    """Draw the samples of a block from ``data``/SPLIT.jsonl; their headers name the files' digests.

    Raises:
        DataError: as draw_all; or a split's file is missing, empty or malformed.
    """
    spec, types = made.setting, made.types
    named = [] if spec.sampler.rule == "none" else [spec.support]
    if not spec.episodic and made.asked:
        named.append(spec.query.split)
    paths = {split: data / f"{split}.jsonl" for split in named}
    splits = {split: _read(path) for split, path in paths.items()}
    types = known_types(types, splits, spec.support, mentioned=made.mentioned)
    digests = {split: sha256_file(path) for split, path in paths.items()}
    support, query = splits.get(spec.support, []), splits.get(spec.query.split, [])
    samples = draw_all(spec, made.dataset, types, support, query, made.draws)
    for sample in samples:
        sample.header["data_sha256"] = digests
    return samples


def known_types(
    types: Sequence[str], splits: Mapping[str, Sequence[Sentence]], support: str, *, mentioned: bool
) -> tuple[str, ...]:
    """Return the types that a dataset's tasks are drawn from; open ones are those that the splits name.

    Args:
        types: those of the dataset; none where they are open.
        splits: name -> sentences.
        support: the split that supports are drawn from.
        mentioned: leave out types that it does not mention.
    """
    if not types:
        return tuple(sorted({e.type for sentences in splits.values() for s in sentences for e in s.entities}))
    if not mentioned:
        return tuple(types)
    found = {e.type for s in splits[support] for e in s.entities}
    return tuple(name for name in types if name in found)


def read_sample_spec(text: str) -> SampleSpec:
    """Return the resolved spec of a sampling job from JSON."""
    return validate(SampleSpec, json.loads(text), "--spec")


def _read(path: Path) -> list[Sentence]:
    sentences = read_sentences(path)
    if not sentences:
        raise DataError("the split has no sentences", where=str(path))
    return sentences


def _unseen(pool: Pool, query: Sequence[Sentence]) -> list[str]:
    """Return the types that the query has and the pool has not."""
    absent = {name for name, total in zip(pool.types, pool.totals, strict=True) if not total}
    return sorted(absent & {e.type for s in query for e in s.entities}) if absent else []


def _asked(query: Sequence[Sentence], spec: QuerySpec, dataset: str, types: int) -> list[str]:
    """Return the query ids: all, or the same random part for every draw; a smaller part lies in a larger one.

    UniversalNER (section 5.1) draws pairs of a sentence and a type; here a sentence comes with all types.
    """
    ids = sorted(sentence.id for sentence in query)
    most = min(spec.limit or len(ids), max(1, spec.pairs // max(1, types)) if spec.pairs else len(ids))
    if most >= len(ids):
        return ids
    Random(stable_seed("query", dataset, spec.split)).shuffle(ids)
    return sorted(ids[:most])


def _seed(spec: DrawSpec, dataset: str, number: int) -> int:
    sampler = spec.sampler
    shots = (str(value) for value in (sampler.k, sampler.n_way, sampler.q))
    return stable_seed("sample", dataset, spec.support, sampler.rule, *shots, number)


def _sample(
    spec: DrawSpec,
    dataset: str,
    types: Sequence[str],
    pool: Pool,
    drawer: Drawer,
    asked: list[str],
    number: int,
) -> Sample:
    seed = _seed(spec, dataset, number)
    choice = drawer(Random(seed))
    positions = sorted(choice.support)
    query = asked if choice.query is None else [pool.sentences[p].id for p in sorted(choice.query)]
    return Sample(
        draw=number,
        types=tuple(t for t in types if choice.types is None or t in choice.types),
        support=tuple(pool.sentences[p].id for p in positions),
        query=tuple(query),
        header=_header(spec.sampler, pool, choice, positions, seed),
    )


def _header(sampler: SamplerSpec, pool: Pool, choice: Choice, positions: Sequence[int], seed: int) -> dict[str, Any]:
    target = choice.target
    counts: Mapping[str, int] = choice.counts or {
        name: count for name, count in pool.named(pool.count(positions)).items() if name in target
    }
    texts = {pool.sentences[p].words for p in positions}
    made = sample_header(
        sampler.rule,
        {key: value for key in ("k", "n_way", "q") if (value := getattr(sampler, key)) is not None},
        seed,
        counts=counts,
        target=target,
        most=target if choice.most is None else choice.most,
        sentences=len(positions),
        duplicates=len(positions) - len(texts),
    )
    return made | choice.notes
