"""A run's discriminators of points, from the checkpoint of its generator's step."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from d3gan.config.ini import load_config
from d3gan.errors import ExternalError, first_line
from d3gan.models.discriminators import Discriminators
from d3gan.runs.checkpoint import load_checkpoint
from d3gan.runs.directory import RunDirectory, checkpoint_path
from d3gan.training.setup import build_gan

logger = logging.getLogger("d3gan")


class Logits(nn.Module):
    """What every discriminator says of points: (N, 2) to (K, N); of slices too, each judges all of them."""

    def __init__(self, discriminators: Discriminators) -> None:
        super().__init__()
        self.members = discriminators.members

    def forward(self, points: Tensor) -> Tensor:
        """Logits (K, N) of points (N, 2); positive means real."""
        return torch.stack([member(points) for member in self.members])


def load_logits(home: Path, step: int) -> Logits | None:
    """The discriminators of a run of points as they were at a step, in eval mode.

    Args:
        home: the run directory.
        step: that the generator's file names.

    Returns:
        None where there are none to show, for a reason that is logged: no run, no checkpoint of that step (a run
        keeps the last two and the best), or BatchNorm, whose answers depend on the other points of a batch.

    Raises:
        ExternalError: config or checkpoint is damaged.
    """
    run = RunDirectory(home)
    if not run.is_ours():
        logger.info(f"{home}: is no run directory: the page shows no discriminators")
        return None
    config = load_config(run.config)
    if config.resolved_norm == "batch":
        logger.info(f"{home}: its discriminators have BatchNorm, so they say nothing of single points: left out")
        return None
    state = _checkpoint_of(run, step)
    if state is None:
        logger.info(f"{home}: keeps no checkpoint of step {step}: the page shows no discriminators")
        return None
    discriminators = build_gan(config, torch.device("cpu"), "float32").discriminators
    try:
        discriminators.load_state_dict(state["discriminators"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ExternalError(
            f"{run.checkpoints}: the checkpoint of step {step} does not fit the run ({first_line(error)})"
        ) from error
    return Logits(discriminators).eval()


def _checkpoint_of(run: RunDirectory, step: int) -> dict[str, Any] | None:
    for path in (checkpoint_path(run.checkpoints, step), run.best_checkpoint):
        if path.is_file():
            state = load_checkpoint(path)
            if state["step"] == step:
                return state
    return None
