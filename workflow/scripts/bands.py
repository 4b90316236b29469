"""Lay out the entity types of an annotation by frequency band: CSV and Markdown."""

from fewtable.script import layout_arguments, run, write_forms
from fewtable.tables.bands import from_params, render_csv, render_md


def main() -> str:
    args = layout_arguments(__doc__)
    spec, found = from_params(args.spec, args.results)
    write_forms(args.output, {"csv": render_csv(spec, found), "md": render_md(spec, found)})
    return f"bands {args.spec['name']}: {sum(len(band.types) for band in found):,} types"


run(main)
