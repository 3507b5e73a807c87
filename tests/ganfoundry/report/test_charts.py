"""Line charts: points stand where they should, ticks are round and span the data, text stays text."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganfoundry.report import Chart, Figure, Section, Series, render_page
from ganfoundry.report.charts import BOTTOM, HEIGHT, LEFT, MAX_POINTS, RIGHT, TOP, WIDTH, nice_ticks, short_number


def polylines(chart: Chart) -> list[np.ndarray]:
    root = ElementTree.fromstring(str(chart.svg))
    return [
        np.array([[float(number) for number in point.split(",")] for point in line.get("points", "").split()])
        for line in root.iter("polyline")
    ]


def test_points_are_placed_between_the_axes() -> None:
    (line,) = polylines(Chart("t", [Series("a", [0, 5, 10], [0.0, 1.0, 2.0])]))
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    np.testing.assert_allclose(line, [[LEFT, bottom], [(LEFT + right) / 2, (TOP + bottom) / 2], [right, TOP]], atol=0.1)


def test_lines_share_their_axes_and_keep_their_colours() -> None:
    chart = Chart("t", [Series("low", [0, 1], [0, 1]), Series("high", [0, 1], [9, 10])], mark=0.5)
    low, high = polylines(chart)
    assert high[:, 1].max() < low[:, 1].min()
    assert chart.legend == [(1, "low", "1"), (2, "high", "10")]
    assert 'class="line-2"' in chart.svg
    assert 'class="mark" x1="283.0"' in chart.svg


def test_axis_may_reach_beyond_the_points() -> None:
    (line,) = polylines(Chart("t", [Series("a", [50, 100], [0, 1])], x_range=(0, 200)))
    width = WIDTH - RIGHT - LEFT
    np.testing.assert_allclose(line[:, 0], [LEFT + width / 4, LEFT + width / 2], atol=0.1)


def test_values_that_are_not_finite_are_left_out_and_long_lines_thinned() -> None:
    y = np.arange(10_000.0)
    y[5] = np.nan
    (line,) = polylines(Chart("t", [Series("a", np.arange(10_000), y)]))
    assert len(line) == MAX_POINTS
    assert np.isfinite(line).all()
    assert (np.diff(line[:, 1]) <= 0).all()


def test_single_point_is_a_dot() -> None:
    svg = Chart("t", [Series("a", [3], [7.0])]).svg
    assert "<circle" in svg
    assert "nan" not in svg


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_span_the_values_in_a_few_round_steps(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    step = ticks[1] - ticks[0]
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-6 * max(step, abs(low))
    assert ticks[-1] >= low + span - 1e-6 * max(step, abs(low))


def test_ticks_are_1_2_or_5_times_a_power_of_ten() -> None:
    assert nice_ticks(0, 100) == pytest.approx([0, 50, 100])
    assert nice_ticks(0.3, 1.1) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.2])
    assert nice_ticks(2, 2)[0] <= 2 < nice_ticks(2, 2)[-1]
    assert nice_ticks(0, 0)[0] == 0


@pytest.mark.parametrize(
    ("value", "text"), [(600_000, "600k"), (1.5e6, "1.5M"), (0, "0"), (0.25, "0.25"), (-2e3, "-2k")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short_number(value) == text


def test_hostile_names_stay_text() -> None:
    evil = '"><script>alert(1)</script>'
    chart = Chart(evil, [Series(evil, [0, 1], [0, 1])], evil)
    page = render_page("t", "l", [Section("s", charts=[chart])])
    assert "<script" not in page
    ElementTree.fromstring(str(chart.svg))


def test_strips_have_captions_and_links() -> None:
    picture = np.full((4, 20, 3), 200, np.uint8)
    page = render_page("t", "l", [Section("s", strips=[Figure(picture, "20,000", quality=90, link="samples/a.png")])])
    assert re.search(r'<a href="samples/a.png">20,000</a></span><img src="data:image/jpeg;base64,', page)
