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
    """Values with their spread, over numbers of workers or batch sizes."""

    at: list[int]
    median: list[float]
    low: list[float]
    high: list[float]

    def scaled(self, factor: Callable[[int], float]) -> "Line":
        """Each value times a factor of its place."""
        median, low, high = (
            [value * factor(at) for at, value in zip(self.at, values, strict=True)]
            for values in (self.median, self.low, self.high)
        )
        return Line(self.at, median, low, high)

    def draw(self, axes: Axes, label: str, **style: Any) -> None:
        """Points joined by a line, with bars from the smallest to the largest."""
        # A median that was computed apart from its extremes may lie outside them by rounding.
        below = np.maximum(np.subtract(self.median, self.low), 0)
        above = np.maximum(np.subtract(self.high, self.median), 0)
        axes.errorbar(self.at, self.median, yerr=[below, above], label=label, elinewidth=1.0, **style)


def shown_batch_size(document: dict[str, Any]) -> int:
    """What the plots by number of workers show: the first batch size that any of them could divide."""
    key = "batch_size" if document["mode"] == "weak" else "global_batch_size"
    measured = {row[key] for row in document["rows"]}
    return next(int(size) for size in document["batch_sizes"] if size in measured)


def lines_by_workers(document: dict[str, Any], quantity: str) -> dict[str, Line]:
    """For each model that has it, a quantity by the number of workers, at the batch size shown."""
    found = {}
    for model in document["models"]:
        rows = [row for row in rows_of(document, model, shown_batch_size(document)) if row[quantity]]
        if rows:
            found[model] = line_of(rows, "workers", quantity)
    return found


def line_of(rows: list[dict[str, Any]], place: str, quantity: str) -> Line:
    """A quantity of some rows, in their order, over their ``place``."""
    median, low, high = ([row[quantity][part] for row in rows] for part in ("median", "low", "high"))
    return Line([row[place] for row in rows], median, low, high)


def published_lines(document: dict[str, Any], value: Callable[[PublishedRun], float]) -> dict[str, Line]:
    """The published figures of the document's models."""
    found = {}
    for model in (model for model in document["models"] if model in PUBLISHED):
        values = [value(run) for run in PUBLISHED[model]]
        found[model] = Line([run.gpus for run in PUBLISHED[model]], values, values, values)
    return found
