from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from fewtable.report.curves import HEIGHT, POINTS, WIDTH, loss_svg, thin


def test_a_curve_a_draw_inside_the_frame() -> None:
    svg = loss_svg({2: [(1, 2.0), (2, 1.0)], 1: [(1, 3.0), (2, 0.0)]})
    root = ElementTree.fromstring(svg)
    lines = root.findall("polyline")
    assert [line.findtext("title") for line in lines] == ["draw 1", "draw 2"]
    for line in lines:
        for x, y in re.findall(r"([\d.]+),([\d.]+)", line.attrib["points"]):
            assert 0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT
    assert "draw 1 from 3 to 0" in root.attrib["aria-label"]


@pytest.mark.parametrize("curves", [{}, {1: []}, {1: [(1, float("nan")), (2, float("inf"))]}])
def test_nothing_to_draw_gives_nothing(curves: dict[int, list[tuple[float, float]]]) -> None:
    assert loss_svg(curves) == ""


def test_one_step_is_a_dot() -> None:
    assert "<circle" in loss_svg({1: [(1, 0.5)]})


def test_zero_loss_and_step_zero_do_not_divide_by_zero() -> None:
    assert "<polyline" in loss_svg({1: [(0, 0.0), (0, 0.0)]})


def test_long_logs_are_thinned_by_means_and_keep_the_last_step() -> None:
    curve = [(step, float(step)) for step in range(1, 1001)]
    short = thin(curve)
    assert len(short) == POINTS and short[-1][0] == 1000
    assert sum(loss for _, loss in short) / POINTS == pytest.approx(500.5, abs=1)
    assert thin(curve[:10]) == curve[:10]
