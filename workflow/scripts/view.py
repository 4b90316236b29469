"""Draw what was measured in the models of two runs: SVG and PNG, with the numbers as CSV."""

from fewtable.files import read_json
from fewtable.script import layout_arguments, run, write_forms
from fewtable.views.drawing import draw
from fewtable.views.shown import from_params, render_csv


def main() -> str:
    args = layout_arguments(__doc__)
    view = from_params(args.spec, read_json(args.results / "views" / f"{args.spec['name']}.json"))
    write_forms(args.output, {"csv": render_csv(view), "svg": draw(view, "svg"), "png": draw(view, "png")})
    return f"view {view.name}: {len(view.numbers)} of {len(view.spec.datasets)} datasets"


run(main)
