"""Lines over steps as the geometry of a small SVG; the template draws it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

WIDTH, HEIGHT = 360, 200
"""Of the drawing in its own units, which are about CSS pixels on a phone."""
COLORS = 8
"""The style sheet has so many colors; further lines repeat them, dashed."""
MOST_CURVES = 16
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 352, 10, 178
_LOG_FROM = 8.0
"""Positive values whose largest is so many times the smallest are drawn on a logarithmic axis."""
_X_TICKS, _Y_TICKS = 4, 4

Points = Sequence[tuple[int, float]]
"""Step and value, in order of the step."""


class Tick(NamedTuple):
    """A value on an axis, and where it is."""

    at: float
    text: str


class Curve(NamedTuple):
    """A line of the chart, and its last value."""

    name: str
    color: int
    """Number of its color, from 0."""
    dashed: bool
    path: str
    """The ``d`` of a ``<path>``."""
    last: str


@dataclass(frozen=True)
class Chart:
    """What is drawn."""

    title: str
    note: str
    """What the lines are, in a sentence."""
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    curves: Sequence[Curve]
    step: int
    """The last step of any line."""

    @property
    def label(self) -> str:
        """The chart for those who do not see it."""
        values = ", ".join(f"{curve.name} {curve.last}" for curve in self.curves)
        return f"{self.title}; at step {self.step:,}: {values}"


def chart_of(
    title: str, note: str, named: Sequence[tuple[str, Points]], limits: tuple[float, float] | None = None
) -> Chart | None:
    """The chart of some lines; None if none of them has two points, so that there would be nothing to see.

    Args:
        title: of the chart.
        note: what the lines are.
        named: name and points of each line; those without points keep their color for later.
        limits: smallest and largest value of the axis. None: those of the lines.
    """
    shown = [(i, name, points) for i, (name, points) in enumerate(named[:MOST_CURVES]) if points]
    if not any(len(points) > 1 for _, _, points in shown):
        return None
    values = [value for _, _, points in shown for _, value in points]
    last_step = max(points[-1][0] for _, _, points in shown)
    low, high = limits or (min(values), max(values))
    logarithmic = limits is None and low > 1e-100 and high >= _LOG_FROM * low
    place = math.log10 if logarithmic else float
    low_place, high_place = place(low), place(high)
    margin = 0.05 * (high_place - low_place) or max(0.5, abs(high_place) / 10)
    if limits is None:
        low_place, high_place = low_place - margin, high_place + margin

    def x_of(step: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * step / max(1, last_step), 1)

    def y_of(value: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * (place(value) - low_place) / (high_place - low_place), 1)

    if logarithmic:
        y_values = _log_ticks(10**low_place, 10**high_place)
    else:
        y_values = _ticks(low_place, high_place, _Y_TICKS)
    curves = []
    for i, name, points in shown:
        path = "M" + "L".join(f"{x_of(step)} {y_of(value)}" for step, value in points)
        # A single point shows as a dot: the line's end is round.
        curves.append(Curve(name, i % COLORS, i >= COLORS, path + "h0" * (len(points) == 1), short(points[-1][1])))
    x_ticks = [Tick(x_of(step), short(step)) for step in _ticks(0, last_step, _X_TICKS) if step == int(step)]
    return Chart(title, note, x_ticks, [Tick(y_of(each), short(each)) for each in y_values], curves, last_step)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from ``low`` to ``high``: multiples of 1, 2 or 5 times a power of ten, at most ``most`` + 1."""
    rough = (high - low) / most
    if rough <= 0 or not math.isfinite(rough):
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    width = next(each * power for each in (1, 2, 5, 10) if each * power >= rough * 0.999999)
    return [i * width for i in range(math.ceil(low / width - 1e-9), math.floor(high / width + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from ``low`` to ``high``; over many powers those alone, or some of them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits, every in (((1, 2, 5), 1), ((1,), 1), ((1,), 2), ((1,), 5), ((1,), 20), ((1,), 100)):
        ticks = [digit * 10.0**power for power in range(first, last + 1, every) for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= _Y_TICKS + 2:
            break
    return ticks


def short(value: float) -> str:
    """A number in few letters: 0.52, 12.3, 1,500, 20k, 1.5M."""
    size = abs(value)
    for least, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= 1e15:
            break
        if size >= least:
            return f"{value / (1e3 if unit == 'k' else least):,.4g}{unit}"
    if size >= 1e15 or 0 < size < 1e-3:
        return f"{value:.1e}"
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if size >= 10 else f"{value:.3g}"
