"""Line charts as inline SVG: no script, no outside file, colours of the page's own light or dark theme."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

WIDTH, HEIGHT = 520, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 8, 26  # margins around the plot
MAX_POINTS = 400  # of one line; more are averaged
_COLOURS = 4  # --line-1 ... of the page's style


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Parameters
    ----------
    name : str
    x, y : (n,) float
        Points from left to right; those that are not finite are left out.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """A line chart with a title, one legend and two axes.

    Parameters
    ----------
    title : str
    series : sequence of Series
        At least one with a finite point.
    x_label : str
    mark : float, optional
        An x to point out with an upright line.
    x_range : (low, high), optional
        Ends of the x axis, for charts to be compared; those of the points otherwise.
    """

    title: str
    series: Sequence[Series]
    x_label: str = ""
    mark: float | None = None
    x_range: tuple[float, float] | None = None

    @property
    def legend(self) -> list[tuple[int, str, str]]:
        """(number of the colour, name, last value) of every line."""
        lines = [_finite(one) for one in self.series]
        return [
            (index % _COLOURS + 1, one.name, f"{points[-1, 1]:.4g}" if len(points) else "")
            for index, (one, points) in enumerate(zip(self.series, lines, strict=True))
        ]

    @property
    def svg(self) -> Markup:
        """The chart, complete; every text in it is escaped."""
        lines = [_thinned(_finite(one)) for one in self.series]
        points = np.concatenate(lines)
        left, right = self.x_range or _range(points[:, 0])
        ticks_x, ticks_y = nice_ticks(left, right), nice_ticks(*_range(points[:, 1]))
        low = np.array([left, min(ticks_y[0], points[:, 1].min())])
        high = np.array([right, max(ticks_y[-1], points[:, 1].max())])
        scale = _Scale(low, np.where(high > low, high, low + 1))
        parts = [_axis_y(scale, value) for value in ticks_y]
        parts += [_axis_x(scale, value) for value in ticks_x if low[0] <= value <= high[0]]
        if self.mark is not None:
            x = scale(np.array([[self.mark, 0.0]]))[0, 0]
            parts.append(
                Markup('<line class="mark" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(
                    x, TOP, HEIGHT - BOTTOM
                )
            )
        parts += [_line(scale(line), index % _COLOURS + 1) for index, line in enumerate(lines) if len(line)]
        return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            WIDTH, HEIGHT, f"{self.title}, over {self.x_label}", Markup("").join(parts)
        )


@dataclass(frozen=True)
class _Scale:
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values (n, 2) as pixels, y down."""
        share = (points - self.low) / (self.high - self.low)
        share[:, 1] = 1 - share[:, 1]
        return share * [WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM] + [LEFT, TOP]


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart, that span [low, high] in about `count` steps."""
    span = (high - low) or abs(low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * count >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def short_number(value: float) -> str:
    """Number on an axis: 600,000 is 600k."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}" if abs(value) > 1e-12 else "0"


def _finite(series: Series) -> NDArray[np.float64]:
    points = np.column_stack([np.asarray(series.x, np.float64), np.asarray(series.y, np.float64)])
    return points[np.isfinite(points).all(axis=1)]


def _thinned(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average neighbours until few enough points are left."""
    if len(points) <= MAX_POINTS:
        return points
    return np.stack([part.mean(axis=0) for part in np.array_split(points, MAX_POINTS)])


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _line(pixels: NDArray[np.float64], colour: int) -> Markup:
    if len(pixels) == 1:
        return Markup('<circle class="line-{}" cx="{:.1f}" cy="{:.1f}" r="2.5"/>').format(colour, *pixels[0])
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
    return Markup('<polyline class="line-{}" points="{}"/>').format(colour, text)


def _axis_y(scale: _Scale, value: float) -> Markup:
    y = scale(np.array([[scale.low[0], value]]))[0, 1]
    return Markup(
        '<line class="rule" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/><text x="{3}" y="{4:.1f}" '
        'text-anchor="end">{5}</text>'
    ).format(LEFT, WIDTH - RIGHT, y, LEFT - 6, y + 4, escape(short_number(value)))


def _axis_x(scale: _Scale, value: float) -> Markup:
    x = scale(np.array([[value, scale.low[1]]]))[0, 0]
    anchor = "end" if x > WIDTH - RIGHT - 20 else "middle"
    return Markup('<text x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(
        x, HEIGHT - 8, anchor, escape(short_number(value))
    )
