"""Cells -> figures: SVG and PNG, with the numbers as CSV."""

from fewtable.figures.build import Figure, Mark, build, from_params, render_csv
from fewtable.figures.drawing import draw

__all__ = ["Figure", "Mark", "build", "draw", "from_params", "render_csv"]
