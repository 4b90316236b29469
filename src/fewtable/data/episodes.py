"""Official episode files -> samples by sentence id, over the sentences that normalise gives the same split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewtable.corpus import Sample, read_sentences, sentence_id
from fewtable.data.normalise import TypeNames, raw_paths, split_spec, yaml_key
from fewtable.data.readers import base
from fewtable.data.readers.base import Episode
from fewtable.errors import ConfigError, DataError
from fewtable.files import sha256_file
from fewtable.registry import find_module, validate
from fewtable.sampling.header import sample_header
from fewtable.sampling.pooled import episodes_of, pooled
from fewtable.specs import DatasetSpec, SampleSpec


def has_episodes(dataset: str, spec: DatasetSpec) -> bool:
    """Say whether the dataset's reader reads official episodes."""
    return hasattr(find_module("data.readers", spec.reader, yaml_key(dataset, "reader")), "episodes")


def official_samples(
    dataset: str,
    spec: DatasetSpec,
    split: str,
    raw: Mapping[str, Path],
    draws: Sequence[int] | None = None,
    *,
    data_sha256: Mapping[str, str],
) -> list[Sample]:
    """Return the official episodes of a split as samples: draw 1 is the first episode of its first file.

    The order of the types is the file's (Few-NERD: it defines the label ids). The header is that of drawn
    samples, without a seed: how much a type is below K (``short``) and, for Few-NERD, above 2K (``over``: the first
    release, before August 2021); ``origin`` names the episode in its release.

    Args:
        dataset: the dataset's name.
        spec: its spec; the reader must be one of episode files.
        split: a split without ``part``.
        raw: file name -> path.
        draws: the draws wanted; all when None.
        data_sha256: split -> digest of the data file that holds the sentences, for the headers.

    Raises:
        ConfigError: the dataset has no episodes, or the split takes a part of its sentences.
        DataError: a file is missing or malformed.
    """
    module = find_module("data.readers", spec.reader, yaml_key(dataset, "reader"))
    part = split_spec(dataset, spec, split)
    if not hasattr(module, "episodes"):
        raise ConfigError(
            f"the reader '{spec.reader}' reads no episodes",
            where=yaml_key(dataset, "reader"),
            fix="official episodes need a dataset with the reader fewnerd-episodes or hou-episodes",
        )
    if part.part is not None:
        raise ConfigError(
            "a split of official episodes cannot be a part",
            where=yaml_key(dataset, f"splits.{split}.part"),
            fix="take 'part' out",
        )
    options = validate(module.Options, spec.options, yaml_key(dataset, "options"))
    types = TypeNames(dataset, spec)
    wanted = None if draws is None else set(draws)
    ids: dict[Any, str] = {}
    out = []
    for draw, episode in enumerate(module.episodes(raw_paths(dataset, part, raw), options), 1):
        for sentence in (*episode.support, *episode.query):
            if sentence.words:
                ids.setdefault(base.key(sentence), sentence_id(split, len(ids)))
        if wanted is None or draw in wanted:
            out.append(_sample(draw, episode, types, ids, data_sha256))
    return out


def official_draws(spec: SampleSpec, dataset: DatasetSpec, data: Path, raw: Path) -> list[Sample]:
    """Return the samples of a block of a setting with official episodes, pooled where the setting says so.

    Args:
        spec: the resolved spec of the sampling job.
        dataset: the spec of its dataset.
        data: the data file of the split, whose digest the headers name.
        raw: folder with the dataset's raw files.

    Raises:
        DataError: as official_samples; or the release has fewer episodes than a pool asks for.
    """
    split, size = spec.setting.support, spec.setting.sampler.pool
    files = {name: raw / name for name in dataset.splits[split].files}
    wanted = [number for draw in spec.draws for number in episodes_of(draw, size)] if size else list(spec.draws)
    found = official_samples(spec.dataset, dataset, split, files, wanted, data_sha256={split: sha256_file(data)})
    if not size:
        return found
    if len(found) < len(wanted):
        raise DataError(
            f"{len(found)} episodes in the release, {len(wanted)} are to be pooled",
            where=f"{data}",
            fix="lower sampler.pool or the setting's draws",
        )
    index, by_number = {s.id: s for s in read_sentences(data)}, {sample.draw: sample for sample in found}
    return [
        pooled(draw, [by_number[number] for number in episodes_of(draw, size)], tuple(dataset.types), index)
        for draw in spec.draws
    ]


def _sample(
    draw: int, episode: Episode, types: TypeNames, ids: Mapping[Any, str], data_sha256: Mapping[str, str]
) -> Sample:
    where = str(episode.origin["file"])
    names = tuple(dict.fromkeys(n for t in episode.types if (n := types.name(t, where)) is not None))
    counts = Counter(e.type for s in episode.support for e in types.entities(s))
    support, query = (tuple(ids[base.key(s)] for s in part if s.words) for part in (episode.support, episode.query))
    header = sample_header(
        "official",
        {"k": episode.k} if episode.k else {},
        None,
        counts={name: counts[name] for name in names},
        target=dict.fromkeys(names, episode.k) if episode.k else {},
        most=dict.fromkeys(names, episode.most) if episode.most else {},
        sentences=len(support),
        duplicates=len(support) - len({s.words for s in episode.support if s.words}),
    )
    return Sample(draw, names, support, query, header | {"origin": episode.origin, "data_sha256": dict(data_sha256)})
