"""A run's files as columns: one array per axis and per metric, made once, from which everything else selects."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from d3gan.comparison.flops import flops_per_image
from d3gan.config.train_config import TrainConfig

Columns = Mapping[str, npt.NDArray[np.float64]]
"""Name -> (lines,) values; NaN where a line lacks the value or has one that is not finite."""


def columns_of(lines: Sequence[Mapping[str, Any]], config: TrainConfig) -> Columns:
    """The numbers of a .jsonl file, and the axes ``iteration``, ``images``, ``seconds`` and ``flops``.

    Args:
        lines: in order of the step.
        config: of the run; decides how many operations an image takes.
    """
    names = dict.fromkeys(name for line in lines for name in line)
    columns = {name: np.array([_number(line.get(name)) for line in lines]) for name in names}
    missing = np.full(len(lines), np.nan)
    images = columns.get("images_seen", missing)
    return columns | {
        "iteration": columns.get("step", missing),
        "images": images,
        "seconds": columns.get("training_seconds", missing),
        "flops": images * flops_per_image(config),
    }


def training_columns(lines: Sequence[Mapping[str, Any]], config: TrainConfig) -> Columns:
    """The columns of metrics.jsonl, with those that are computed from the discriminators' lists.

    Returns:
        Also ``discriminator_loss``, the mean of the paired losses (each discriminator's loss on real images plus its
        paired loss on fake ones); ``gap``, the largest paired loss less the smallest, over their mean; and
        ``weight_0``, ``weight_1``, …, each discriminator's mean weight in the generator's loss since the line before
        (of a one-hot rule: its share of the steps); the last two need two discriminators; and in the same way
        ``separation_0``, … and ``gradient_norm_0``, … of the diagnostics.
    """
    swapped, K = config.recipe.pairing == "swapped", config.recipe.discriminators
    means, gaps = [], []
    lists: dict[str, list[list[float]]] = {"weight": [], "separation": [], "gradient_norm": []}
    for line in lines:
        real, fake = (_numbers(line.get(name)) for name in ("real_losses", "fake_losses"))
        losses = [a + b for a, b in zip(real, fake[1:] + fake[:1] if swapped else fake, strict=False)]
        mean = math.fsum(losses) / len(losses) if losses else math.nan
        means.append(mean)
        gaps.append((max(losses) - min(losses)) / mean if len(losses) > 1 and mean > 0 else math.nan)
        for name, rows in lists.items():
            found = _numbers(line.get(name if name == "separation" else f"{name}s"))
            rows.append(found if len(found) == K and (K > 1 or name != "weight") else [math.nan] * K)
    derived = {"discriminator_loss": means, "gap": gaps}
    derived |= {f"{name}_{k}": [each[k] for each in rows] for name, rows in lists.items() for k in range(K)}
    return {**columns_of(lines, config), **{name: np.array(values, float) for name, values in derived.items()}}


def _number(value: Any) -> float:
    """A finite number as it is; NaN for anything else, such as a bool."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else math.nan


def _numbers(values: Any) -> list[float]:
    """A list of finite numbers as it is; empty for anything else."""
    numbers = [_number(value) for value in values] if isinstance(values, list) else []
    return [] if any(map(math.isnan, numbers)) else numbers
