"""A view as SVG or PNG, made for one column of a paper, the same bytes every time."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Literal

from fewtable.figures.drawing import COLOURS, MARKERS, blank, saved, style
from fewtable.views.shown import View, shares
from fewtable.views.spec import SIDES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

ROW = 0.15
"""Inches of height of a word."""
PANEL = 1.5
"""Inches of height of a plane of points."""
LEGEND = 0.15, 3
"""Inches of height of a row of the legend, and entries in it."""


def draw(view: View, form: Literal["svg", "png"]) -> bytes:
    """Return the view as SVG, or as PNG at 300 dots an inch; where it can't be made, why stands in its place."""
    with style():
        canvas = _attention(view) if view.spec.attention else _space(view)
        return saved(canvas, view.spec.title, form)


def _titled(area: Axes, view: View, side: str, says: str) -> None:
    """Write a side's letter and title above its panel, and what its numbers say."""
    title = f"({'ab'[SIDES.index(side)]}) {view.spec.side(side).title}"
    area.set_title(f"{title}\n{says}", loc="left", pad=3, fontsize=7)


def _absent(area: Axes, why: str) -> None:
    area.set_axis_off()
    area.text(0.5, 0.5, textwrap.fill(why, 60), ha="center", va="center", color="#666666", transform=area.transAxes)


# --- attention ------------------------------------------------------------------------------------


def _attention(view: View) -> Canvas:
    (dataset,) = view.spec.datasets
    if dataset in view.missing:
        canvas = blank(1.0)
        _absent(canvas.subplots(), view.missing[dataset])
        return canvas
    numbers = view.numbers[dataset]
    canvas = blank(ROW * len(numbers["words"]) + 1.9)
    written = [len(numbers[side]["written"]) for side in SIDES]
    ratios = [ratio for count in written for ratio in (count, max(1.0, 0.22 * count))]
    areas = canvas.subplots(1, 4, sharey=True, width_ratios=ratios)
    most = max(value for side in SIDES for row in numbers[side]["attention"] for value in row)
    for side, (looked, close) in zip(SIDES, (areas[:2], areas[2:]), strict=True):
        heat = _heat(looked, _turned(numbers[side]["attention"]), "viridis", 0.0, most, f"{side}.attention")
        strip = _heat(close, [[value] for value in numbers[side]["cosines"]], "RdBu_r", -1.0, 1.0, f"{side}.cosine")
        tokens = [_token(text) for text in numbers[side]["written"]]
        looked.set_xticks([n + 0.5 for n in range(len(tokens))], tokens, rotation=90)
        close.set_xticks([0.5], ["cosine"], rotation=90)
        on_entity, on_sentence = shares(numbers, side)
        says = f"{100 * on_entity:.1f} % on the entity\n{100 * on_sentence:.1f} % on the sentence"
        _titled(looked, view, side, says)
    _words(areas[0], numbers)
    canvas.colorbar(heat, ax=list(areas[:2]), location="bottom", shrink=0.9, aspect=18, label="attention")
    canvas.colorbar(strip, ax=list(areas[2:]), location="bottom", shrink=0.9, aspect=18, label="cosine with the type")
    return canvas


def _turned(rows: list[list[float]]) -> list[list[float]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _heat(area: Axes, values: list[list[float]], colours: str, low: float, high: float, name: str) -> Any:
    image = area.pcolormesh(values, cmap=colours, vmin=low, vmax=high, edgecolors="white", linewidth=0.3)
    image.set_gid(name)
    area.grid(False)
    area.tick_params(length=0)
    area.spines[:].set_visible(False)
    return image


def _words(area: Axes, numbers: Any) -> None:
    """Write the words beside the rows, the first on top; the entity's are bold."""
    words = numbers["words"]
    area.set_yticks([n + 0.5 for n in range(len(words))], words)
    area.set_ylim(len(words), 0)
    gold = {n for start, end in numbers["entities"] for n in range(start, end)}
    for n in gold:
        area.get_yticklabels()[n].set_fontweight("bold")


def _token(text: str) -> str:
    """Return a token as it can be shown: white space alone has no other sign."""
    return text.strip() or "␣"


# --- space ----------------------------------------------------------------------------------------


def _space(view: View) -> Canvas:
    there = [dataset for dataset in view.spec.datasets if dataset not in view.missing]
    present = {dataset: sorted({entity[3] for entity in view.numbers[dataset]["entities"]}) for dataset in there}
    heights = [
        PANEL + 0.5 + LEGEND[0] * -(-len(present[d]) // LEGEND[1]) if d in present else 0.75 for d in view.spec.datasets
    ]
    canvas = blank(sum(heights))
    parts = canvas.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for dataset, part in zip(view.spec.datasets, parts, strict=True):
        part.suptitle(textwrap.fill(view.titles[dataset], 46), fontsize=7.5, fontweight="bold", x=0.02, ha="left")
        if dataset in view.missing:
            _absent(part.subplots(), view.missing[dataset])
            continue
        areas = part.subplots(1, 2)
        for side, area in zip(SIDES, areas, strict=True):
            _plane(view, dataset, side, area, present[dataset])
        handles, labels = areas[0].get_legend_handles_labels()
        part.legend(handles, labels, loc="outside lower center", ncols=LEGEND[1], frameon=False, handlelength=1.0)
    return canvas


def _plane(view: View, dataset: str, side: str, area: Axes, types: list[str]) -> None:
    numbers = view.numbers[dataset]
    points = numbers[side]["points"]
    for number, name in enumerate(types):
        own = [point for point, entity in zip(points, numbers["entities"], strict=True) if entity[3] == name]
        xs, ys = zip(*own, strict=True)
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS)]
        drawn = area.scatter(xs, ys, s=7, c=colour, marker=marker, lw=0, alpha=0.85, label=view.words(dataset, name))
        drawn.set_gid(f"{dataset}.{side}.{name}")
    score = numbers[side]["silhouette"]["hidden"]
    says = "no silhouette" if score is None else f"silhouette {score:.3f}"
    _titled(area, view, side, says)
    area.set_xticks([])
    area.set_yticks([])
    area.grid(False)
    area.spines[:].set_visible(True)
