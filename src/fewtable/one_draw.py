"""One draw of a setting for a person at the command line: made in memory, from splits that are read or made there."""

from __future__ import annotations

from fewtable.corpus import Sample, Sentence
from fewtable.data.load import load_split
from fewtable.errors import ConfigError
from fewtable.plan import Plan
from fewtable.sampling import draw, known_types


def one_draw(plan: Plan, dataset: str, setting: str, number: int) -> tuple[Sample, list[Sentence]]:
    """Return a draw's sample and its support sentences. Open types are those that the splits name, as in the workflow.

    Raises:
        ConfigError: the setting takes official episodes from files.
        ConfigError, LicenceError, DataError: as load_split and draw.
    """
    spec = plan.registry.setting(setting)
    if spec.sampler.rule == "official":
        block = next((b for b in plan.blocks(setting) if number in plan.block_draws(b)), "BLOCK")
        raise ConfigError(
            f"setting '{setting}' takes official episodes from files and draws none",
            where=setting,
            fix=f"snakemake --cores 1 results/samples/{dataset}/{setting}/{block}.jsonl",
        )
    splits = {s: load_split(plan.registry, plan.user, dataset, s) for s in plan.data_files(dataset, setting)}
    data = plan.registry.dataset(dataset)
    types = known_types(tuple(data.types), splits, spec.support, mentioned=bool(data.domains))
    support, query = splits.get(spec.support, []), splits.get(spec.query.split, [])
    sample = draw(spec, dataset, types, support, query, number)
    by_id = {sentence.id: sentence for sentences in splits.values() for sentence in sentences}
    return sample, [by_id[identity] for identity in sample.support]
