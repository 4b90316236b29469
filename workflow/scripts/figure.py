"""Draw cells as a figure: SVG and PNG, with the numbers as CSV."""

from fewtable.figures import draw, from_params, render_csv
from fewtable.script import layout_arguments, run, write_forms


def main() -> str:
    args = layout_arguments(__doc__)
    figure = from_params(args.spec, args.results)
    write_forms(args.output, {"csv": render_csv(figure), "svg": draw(figure, "svg"), "png": draw(figure, "png")})
    there = sum(mark.value is not None for mark in figure.marks)
    return f"figure {figure.name}: {there} of {len(figure.marks)} numbers"


run(main)
