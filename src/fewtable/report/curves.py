"""Loss curves as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from markupsafe import Markup, escape

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 34
POINTS = 240
"""Most points of a curve; longer logs are thinned by means over equal stretches."""
STYLES = 6
"""Line styles (colour and dashes) that the style sheet knows."""

Curve = Sequence[tuple[float, float]]
"""(step, loss) in the order of steps."""


def loss_svg(curves: Mapping[int, Curve]) -> Markup:
    """Return an SVG of training losses, a line a draw; empty without a finite point."""
    thinned = {draw: thin([p for p in curve if math.isfinite(p[1])]) for draw, curve in curves.items()}
    thinned = {draw: curve for draw, curve in sorted(thinned.items()) if curve}
    if not thinned:
        return Markup("")
    last = max(curve[-1][0] for curve in thinned.values())
    top = _nice(max(loss for curve in thinned.values() for _, loss in curve))

    def place(step: float, loss: float) -> str:
        x = LEFT + (WIDTH - LEFT - RIGHT) * (step / last if last else 0)
        y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - max(loss, 0) / top)
        return f"{x:.1f},{y:.1f}"

    said = "; ".join(f"draw {d} from {c[0][1]:.3g} to {c[-1][1]:.3g}" for d, c in thinned.items())
    parts = [
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(f"Training loss by optimiser step: {said}")}">'
    ]
    for share in (0, 0.5, 1):
        y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * share:.3g}</text>')
    for share, anchor in ((0, "start"), (1, "end")):
        x = LEFT + (WIDTH - LEFT - RIGHT) * share
        step = f"step {last:g}" if share else "0"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 12}" text-anchor="{anchor}">{step}</text>')
    for index, (draw, curve) in enumerate(thinned.items()):
        points = " ".join(place(*point) for point in curve)
        parts.append(
            f'<polyline class="line l{index % STYLES}" points="{points}"><title>draw {draw}</title></polyline>'
        )
        if index < STYLES:
            parts += _key(index, draw)
        if len(curve) == 1:
            cx, cy = place(*curve[0]).split(",")
            parts.append(f'<circle class="dot" cx="{cx}" cy="{cy}" r="3"/>')
    return Markup("".join([*parts, "</svg>"]))


def _key(index: int, draw: int) -> list[str]:
    y, x = TOP + 16 + 18 * index, WIDTH - RIGHT - 100
    line = f'<line class="line l{index}" x1="{x}" x2="{x + 34}" y1="{y - 4}" y2="{y - 4}"/>'
    return [line, f'<text x="{x + 42}" y="{y}">draw {draw}</text>']


def thin(curve: Curve, points: int = POINTS) -> list[tuple[float, float]]:
    """Return at most ``points`` points: the last step and mean loss of equal stretches."""
    if len(curve) <= points:
        return list(curve)
    borders = [round(i * len(curve) / points) for i in range(points + 1)]
    out = []
    for begin, end in pairwise(borders):
        part = curve[begin:end]
        out.append((part[-1][0], sum(loss for _, loss in part) / len(part)))
    return out


def _nice(value: float) -> float:
    """Return the least of 1, 2, 2.5, 5 times a power of ten that is not below ``value``."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))
