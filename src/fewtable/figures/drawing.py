"""A figure as SVG or PNG, made for one column of a paper: panels below each other, the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Literal

from fewtable.figures.build import Figure, Mark
from fewtable.layouts import FigureSpec, Metric, PartSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

WIDTH = 3.3
"""Inches: one column of a two-column paper."""
PANEL = 1.45
"""Inches of height of a panel, its x axis aside."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8A00")
"""Okabe and Ito's palette, told apart with any kind of colour vision; its pale yellow made dark."""
MARKERS, HATCHES = "os^DvPX*", ("", "///", "...", "xxx", "\\\\\\", "---", "+++", "oo")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
METRICS: dict[Metric, str] = {
    "strict": "F1",
    "span": "span F1",
    "partial": "partial F1",
    "uniner": "string F1",
    "uniner-partial": "partial string F1",
    "ber": "boundary errors",
    "ber-pred": "boundary errors by predictions",
    "ber-gold": "boundary errors by gold",
    "ber-blind": "boundary errors without types",
}
GROUP = 0.84
"""Share of the room between two points that a group of bars takes."""
ROW = 0.15, 0.055
"""Inches of height of a row: of its title, and of each bar more than two."""
SPREAD: dict[str, Any] = {"ecolor": "#222222", "elinewidth": 0.7, "capsize": 1.2, "capthick": 0.6, "zorder": 4}
"""How a bar's deviation is drawn."""
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#444444",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "hatch.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.8,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.2,
    "legend.handletextpad": 0.5,
    "legend.labelspacing": 0.3,
    "legend.borderpad": 0.1,
    "svg.hashsalt": "fewtable",
    "svg.fonttype": "path",
}


def draw(figure: Figure, form: Literal["svg", "png"]) -> bytes:
    """Return the figure as SVG, or as PNG at 300 dots an inch; what is missing leaves a gap."""
    spec = figure.spec
    with style():
        height = (_rows_height(spec) if spec.kind == "rows" else PANEL) * len(spec.panels) + 0.75
        canvas = blank(height)
        axes = canvas.subplots(len(spec.panels), 1, sharex=True, squeeze=False)[:, 0]
        for panel, area in zip(spec.panels, axes, strict=True):
            {"bars": _bars, "lines": _lines, "rows": _rows}[spec.kind](figure, panel, area)
            area.set_title(panel.title, loc="left", fontweight="bold", pad=3)
            if spec.kind != "rows":
                area.set_ylabel(f"{METRICS[spec.metric]} (%)")
        if spec.kind != "rows":
            axes[-1].set_xticks(range(len(spec.points)), [point.title for point in spec.points])
        axes[-1].set_xlabel(spec.x)
        handles = _legend(figure)
        canvas.legend(handles=handles, loc="outside upper center", ncols=_columns(handles), frameon=False)
        return saved(canvas, spec.title, form)


def blank(height: float) -> Canvas:
    """Return an empty figure of one column's width and a height in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    canvas = Canvas(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02))
    FigureCanvasAgg(canvas)
    return canvas


def saved(canvas: Canvas, title: str, form: Literal["svg", "png"]) -> bytes:
    """Return a drawn figure as SVG, or as PNG at 300 dots an inch: no date, no version."""
    stream = io.BytesIO()
    metadata = {"svg": {"Title": title, "Date": None, "Creator": None}, "png": {"Software": None}}
    canvas.savefig(stream, format=form, dpi=300, metadata=metadata[form])
    return stream.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """Draw with the library's defaults and STYLE, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def _columns(handles: list[Any]) -> int:
    """Return the most columns of legend entries that fit: 60 characters a row, a mark takes 7."""
    widths = [7 + len(handle.get_label()) for handle in handles]
    for columns in range(len(widths), 1, -1):
        least, longer = divmod(len(widths), columns)  # matplotlib fills column by column, the first ones longer
        ends = list(accumulate([0] + [least + (column < longer) for column in range(columns)]))
        if sum(max(widths[start:end]) for start, end in pairwise(ends)) <= 60:
            return columns
    return 1


def _lines(figure: Figure, panel: PartSpec, area: Axes) -> None:
    series = figure.spec.series
    for index, one in enumerate(series):
        marks = figure.line(panel.id, one.id, figure.spec.metric)
        # A little aside of each other, so that error bars do not hide one another.
        xs = [x + 0.07 * (index - (len(series) - 1) / 2) for x in range(len(marks))]
        printed = [_number(mark.printed[0]) for mark in marks]
        area.plot(xs, printed, MARKERS[index], mfc="none", mew=0.7, color=COLOURS[index], alpha=0.6, ms=5.6)
        drawn = area.errorbar(
            xs,
            [_mean(mark) for mark in marks],
            [_sd(mark) for mark in marks],
            capsize=1.6,
            elinewidth=0.7,
            capthick=0.7,
            **_line_style(index),
        )
        drawn[0].set_gid(f"{panel.id}.{one.id}")
        drawn[2][0].set_gid(f"{panel.id}.{one.id}.sd")
    area.set_xlim(-0.4, len(figure.spec.points) - 0.6)


def _bars(figure: Figure, panel: PartSpec, area: Axes) -> None:
    spec = figure.spec
    width = GROUP / len(spec.series)
    for index, one in enumerate(spec.series):
        for back, metric in enumerate(spec.metrics):
            marks = figure.line(panel.id, one.id, metric)
            xs = [x + width * (index - (len(spec.series) - 1) / 2) for x in range(len(marks))]
            bars = area.bar(xs, [_mean(mark) for mark in marks], width * 0.92, **_bar_style(index, bool(back)))
            for bar, mark in zip(bars, marks, strict=True):
                bar.set_gid(f"{panel.id}.{one.id}.{mark.point}.{metric}")
            # The error bars of both metrics beside each other: they may lie at the same height.
            aside = [x + width * 0.16 * (1 if back else -1) * (len(spec.metrics) > 1) for x in xs]
            means, sds = [_mean(mark) for mark in marks], [_sd(mark) for mark in marks]
            area.errorbar(aside, means, sds, fmt="none", **SPREAD)
            printed = [_number(mark.printed[0]) for mark in marks]
            area.plot(xs, printed, "_", color="black", ms=4.5, mew=0.9, zorder=5)
    area.set_ylim(0, 100)
    area.set_xlim(-0.55, len(spec.points) - 0.45)
    area.tick_params(axis="x", length=0)


def _rows_height(spec: FigureSpec) -> float:
    return len(spec.points) * (ROW[0] + ROW[1] * max(0, len(spec.series) - 2))


def _rows(figure: Figure, panel: PartSpec, area: Axes) -> None:
    spec = figure.spec
    groups = _groups(spec)
    width = GROUP / len(spec.series)
    for index, one in enumerate(spec.series):
        marks = figure.line(panel.id, one.id, spec.metric)
        ys = [y + width * (index - (len(spec.series) - 1) / 2) for y in range(len(marks))]
        bars = area.barh(ys, [_mean(mark) for mark in marks], width * 0.92)
        for bar, mark, point in zip(bars, marks, spec.points, strict=True):
            bar.update(_bar_style(groups.index(point.group) if groups else index, False))
            bar.set_gid(f"{panel.id}.{one.id}.{mark.point}.{spec.metric}")
        area.errorbar([_mean(m) for m in marks], ys, xerr=[_sd(m) for m in marks], fmt="none", **SPREAD)
        area.plot([_number(mark.printed[0]) for mark in marks], ys, "|", color="black", ms=4, mew=0.9, zorder=5)
    area.set_yticks(range(len(spec.points)), [point.title for point in spec.points])
    area.set_ylim(len(spec.points) - 0.45, -0.55)  # the first row on top
    if any(one.baseline for one in spec.series):
        area.axvline(0, color="#444444", lw=0.6, zorder=4)
    else:
        area.set_xlim(0, 100)
    area.tick_params(axis="y", length=0)
    area.grid(axis="y", visible=False)
    area.grid(axis="x", visible=True)


def _groups(spec: FigureSpec) -> list[str]:
    """Return the groups of points that colour the rows; none where the series do."""
    named = list(dict.fromkeys(point.group for point in spec.points))
    return named if spec.kind == "rows" and len(spec.series) == 1 and any(named) else []


def _line_style(index: int) -> dict[str, Any]:
    style = {"linestyle": DASHES[index % len(DASHES)], "marker": MARKERS[index]}
    return style | {"color": COLOURS[index], "mec": "white", "mew": 0.4}


def _bar_style(index: int, back: bool) -> dict[str, Any]:
    colour = COLOURS[index]
    if back:
        return {"facecolor": _light(colour), "edgecolor": colour, "linewidth": 0.4, "zorder": 2}
    return {"facecolor": colour, "edgecolor": "white", "linewidth": 0.3, "hatch": HATCHES[index], "zorder": 3}


def _light(colour: str) -> str:
    """Return the colour mixed with white."""
    parts = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return "#" + "".join(f"{round(255 - 0.35 * (255 - part)):02X}" for part in parts)


def _legend(figure: Figure) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    spec = figure.spec
    if spec.kind == "lines":
        handles: list[Any] = [
            Line2D([], [], label=one.title, **_line_style(index)) for index, one in enumerate(spec.series)
        ]
        shown: dict[str, Any] = {"marker": "o", "ls": "", "mfc": "none", "mec": "#666666", "mew": 0.7, "ms": 5.6}
    else:
        titles = _groups(spec) or [one.title for one in spec.series]
        handles = [Patch(label=title, **_bar_style(index, False)) for index, title in enumerate(titles)]
        marker = "|" if spec.kind == "rows" else "_"
        shown = {"marker": marker, "ls": "", "color": "black", "ms": 7, "mew": 0.9}
    if spec.behind:
        handles.append(
            Patch(label=f"full bar: {METRICS[spec.behind]}", facecolor="#CFCFCF", edgecolor="#666666", lw=0.4)
        )
    if any(mark.printed[0] is not None for mark in figure.marks):
        handles.append(Line2D([], [], label="printed", **shown))
    return handles


def _mean(mark: Mark) -> float:
    return _number(mark.value.mean if mark.value else None)


def _sd(mark: Mark) -> float:
    return _number(mark.value.sd if mark.value else None)


def _number(value: float | None) -> float:
    """Return not-a-number for None: matplotlib leaves a gap there."""
    return float("nan") if value is None else value
