"""The lines of scaling's plots: a quantity over numbers of workers or batch sizes, as measured or as published."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from d3gan.scaling.projection import rows_of
from d3gan.scaling.published import PUBLISHED, PublishedRun


@dataclass(frozen=True)
class Line:
    """Values with their range over the rounds, by number of workers or batch size."""

    x: list[int]
    median: list[float]
    low: list[float]
    high: list[float]

    def scaled(self, factor: Callable[[int], float]) -> "Line":
        """The line with each value multiplied by a factor of its x."""
        median, low, high = (
            [value * factor(x) for x, value in zip(self.x, values, strict=True)]
            for values in (self.median, self.low, self.high)
        )
        return Line(self.x, median, low, high)

    def draw(self, axes: Axes, label: str, **style: Any) -> None:
        """Draws points joined by a line, with bars from the smallest value to the largest."""
        # A median that was computed apart from its extremes may lie outside them by rounding.
        below = np.maximum(np.subtract(self.median, self.low), 0)
        above = np.maximum(np.subtract(self.high, self.median), 0)
        axes.errorbar(self.x, self.median, yerr=[below, above], label=label, elinewidth=1.0, **style)


def shown_batch_size(document: dict[str, Any]) -> int:
    """The batch size that plots by number of workers show: the first that any number of workers could divide."""
    key = "batch_size" if document["mode"] == "weak" else "global_batch_size"
    measured = {row[key] for row in document["rows"]}
    return next(int(size) for size in document["batch_sizes"] if size in measured)


def lines_by_workers(document: dict[str, Any], quantity: str) -> dict[str, Line]:
    """For each model that has it, a quantity by number of workers, at the batch size shown."""
    lines = {}
    for model in document["models"]:
        rows = [row for row in rows_of(document, model, shown_batch_size(document)) if row[quantity]]
        if rows:
            lines[model] = line_of(rows, "workers", quantity)
    return lines


def line_of(rows: list[dict[str, Any]], x: str, quantity: str) -> Line:
    """A quantity of some rows, in their order, over their value of ``x``."""
    median, low, high = ([row[quantity][part] for row in rows] for part in ("median", "low", "high"))
    return Line([row[x] for row in rows], median, low, high)


def published_lines(document: dict[str, Any], value: Callable[[PublishedRun], float]) -> dict[str, Line]:
    """The published measurements of the document's models."""
    lines = {}
    for model in document["models"]:
        if model in PUBLISHED:
            values = [value(run) for run in PUBLISHED[model]]
            lines[model] = Line([run.gpus for run in PUBLISHED[model]], values, values, values)
    return lines
