"""Lay cells out as a table: CSV, Markdown, LaTeX and HTML."""

from fewtable.script import layout_arguments, run, write_forms
from fewtable.tables import from_params, read_cells, render_csv, render_html, render_md, render_tex

RENDER = {"csv": render_csv, "md": render_md, "tex": render_tex, "html": render_html}


def main() -> str:
    args = layout_arguments(__doc__)
    table = from_params(args.spec, read_cells(args.spec, args.results).values(), args.results)
    write_forms(args.output, {suffix: render(table) for suffix, render in RENDER.items()})
    there = sum(entry.status == "ok" for entry in table.entries.values())
    return f"table {table.name}: {there} of {len(table.entries)} cells"


run(main)
