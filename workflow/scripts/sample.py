"""Draw the samples of a block, or take them from official episode files."""

import argparse
from pathlib import Path

from fewtable.corpus import write_samples
from fewtable.data.episodes import official_draws
from fewtable.registry import Registry
from fewtable.sampling import draw_block, read_sample_spec
from fewtable.script import run


def main() -> str:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=read_sample_spec, help="the resolved spec, as JSON")
    parser.add_argument("--data", required=True, type=Path, help="folder with the dataset's SPLIT.jsonl files")
    parser.add_argument("--raw", required=True, type=Path, help="folder with the dataset's raw files")
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()
    spec, setting = args.spec, args.spec.setting
    if setting.sampler.rule == "official":
        dataset = Registry(Path("config")).dataset(spec.dataset)
        samples = official_draws(spec, dataset, args.data / f"{setting.support}.jsonl", args.raw)
    else:
        samples = draw_block(spec, args.data)
    write_samples(args.output, samples)
    sizes = "+".join(str(len(sample.support)) for sample in samples[:5])
    return f"{len(samples)} samples of {spec.dataset} by '{setting.sampler.rule}' ({sizes} sentences)"


run(main)
