"""Show entities whose boundary one run has right and the other has not: CSV, Markdown and HTML."""

from fewtable.script import layout_arguments, run, write_forms
from fewtable.views.cases import from_params
from fewtable.views.cases_forms import render_csv, render_html, render_md


def main() -> str:
    args = layout_arguments(__doc__)
    cases = from_params(args.spec, args.results)
    names = (args.spec["datasets"], args.spec["types"])
    forms = {"csv": render_csv(cases), "md": render_md(cases, *names), "html": render_html(cases, *names)}
    write_forms(args.output, forms)
    return f"cases {args.spec['name']}: {len(cases.found)} of {cases.instances.total()} sentences"


run(main)
