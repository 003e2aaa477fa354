"""How far a run is, from its config and the last line of its metrics.jsonl. Imports no torch."""

import math
from collections.abc import Mapping
from typing import Any

from d3gan.config.train_config import TrainConfig


def progress_of(config: TrainConfig, line: Mapping[str, Any]) -> tuple[int, int | None]:
    """A run's steps so far, and its last step; None while the number of steps per epoch is unknown.

    Args:
        config: of the run.
        line: the last one of metrics.jsonl; empty while there is none.
    """
    try:
        step, epoch = int(line["step"]), float(line["epoch"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return 0, config.max_steps or None
    if not (0 < epoch < math.inf):
        return step, config.max_steps or None
    in_epochs = round(step / epoch) * config.epochs
    return step, min(in_epochs, config.max_steps or in_epochs)


def seconds_left(line: Mapping[str, Any], last_step: int) -> float | None:
    """Seconds of training until the last step at the speed of a line of metrics.jsonl; None where it has no speed."""
    try:
        step, rate = int(line["step"]), float(line["images_per_second"])
        left = (last_step - step) * float(line["images_seen"]) / step / rate
    except (ValueError, KeyError, TypeError, OverflowError, ZeroDivisionError):
        return None
    return max(0.0, left) if math.isfinite(left) else None
