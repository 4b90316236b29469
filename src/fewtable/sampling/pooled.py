"""Episodes pooled into one sample, after BANER's released converters (UESTC-GQJ/BANER; methods/15, "Protocol").

The supports of all episodes are one training set, their queries one test set, and a query sentence is asked only about
the types that it holds. A sentence may be the support of one episode and the query of another: it is then in both, as
it is there. What is asked tells where there is nothing to find, so these numbers are an oracle's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fewtable.corpus import Sample, Sentence
from fewtable.sampling.header import sample_header


def episodes_of(draw: int, pool: int) -> range:
    """Return the episodes that make a draw of a setting that pools ``pool`` of them: the first has 1, 2, ..., pool."""
    return range((draw - 1) * pool + 1, draw * pool + 1)


def pooled(draw: int, episodes: Sequence[Sample], types: Sequence[str], sentences: Mapping[str, Sentence]) -> Sample:
    """Return one sample of some episodes, with every sentence once in the support and once in the query.

    Query sentences without an entity of the episodes' types are left out: nobody asks about them. The header counts
    the support's mentions, and under ``in_support`` the query sentences that stand in the support too.

    Args:
        draw: the number of the pooled draw.
        episodes: what is pooled.
        types: the dataset's types, in the order that tasks list theirs.
        sentences: id -> sentence, at least those that the episodes name.
    """
    named = {name for episode in episodes for name in episode.types}
    support = sorted({name for episode in episodes for name in episode.support})
    held = {
        name: tuple(t for t in types if t in named and t in {e.type for e in sentences[name].entities})
        for name in sorted({name for episode in episodes for name in episode.query})
    }
    query = [name for name, kinds in held.items() if kinds]
    counts = Counter(e.type for name in support for e in sentences[name].entities)
    first = episodes[0].header
    header = sample_header(
        f"{first['rule']}, {len(episodes)} pooled",
        {key: first[key] for key in ("k", "n_way", "q") if key in first},
        None,
        counts={name: counts[name] for name in types if name in named},
        target={},
        most={},
        sentences=len(support),
        duplicates=len(support) - len({sentences[name].words for name in support}),
    )
    data = {"data_sha256": first["data_sha256"]} if "data_sha256" in first else {}
    return Sample(
        draw,
        tuple(name for name in types if name in named),
        tuple(support),
        tuple(query),
        header | {"in_support": len(set(query) & set(support))} | data,
        tuple(held[name] for name in query),
    )
