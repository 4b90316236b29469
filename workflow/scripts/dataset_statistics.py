"""Count datasets as a table of statistics: CSV, Markdown, LaTeX and HTML."""

from fewtable.script import layout_arguments, run, write_forms
from fewtable.tables.statistics import from_params, render_csv
from fewtable.tables.statistics_forms import render_html, render_md, render_tex

RENDER = {"csv": render_csv, "md": render_md, "tex": render_tex, "html": render_html}


def main() -> str:
    args = layout_arguments(__doc__)
    table = from_params(args.spec, args.results)
    write_forms(args.output, {suffix: render(table) for suffix, render in RENDER.items()})
    there = sum(count.value is not None for count in table.counts.values())
    return f"statistics {table.name}: {there} of {len(table.counts)} counts"


run(main)
