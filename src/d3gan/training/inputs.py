"""What goes into a training step: real images and latents, as functions of the step."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from d3gan.config.train_config import TrainConfig
from d3gan.data.batches import Batches
from d3gan.distributed.group import Group
from d3gan.randomness import draw_latents


class StepInputs:
    """One process's real images and latents of each training step.

    Args:
        config: of the run.
        images: (M, C, S, S) uint8: the training images.
        group: the processes, which share out the images and latents of each step.
        device: where to put the inputs.
        dtype: floating type of both.

    Raises:
        ConfigError: fewer images than one step takes.
    """

    def __init__(
        self,
        config: TrainConfig,
        images: npt.NDArray[np.uint8],
        group: Group,
        device: torch.device,
        dtype: torch.dtype,
    ):
        self._config, self._group, self._device, self._dtype = config, group, device, dtype
        size = config.batch_size * config.grad_accum_steps
        ranks = group.rank, group.world_size
        self._batches = Batches(images, size, config.nc, config.seed, device, dtype, *ranks)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which all processes together see each image once; a last, incomplete step is left out."""
        return self._batches.steps_per_epoch

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Real images (A N, C, S, S) in [-1, 1] and latents (A N, nz) of step ``step`` (from 0), on the device.

        A is ``grad_accum_steps`` and N is ``batch_size``.
        """
        latents = latents_of_step(self._config, step, self._group.rank, self._device)
        return self._batches.at(step), latents.to(self._dtype)


def latents_of_step(config: TrainConfig, step: int, rank: int, device: torch.device) -> torch.Tensor:
    """A process's latents of a training step, (grad_accum_steps x batch_size, nz) float32.

    Each batch of the step, of all processes, draws from a stream of its own: who processes it makes no difference.

    Args:
        config: of the run.
        step: from 0.
        rank: of the process.
        device: where to draw.
    """
    batches = range(rank * config.grad_accum_steps, (rank + 1) * config.grad_accum_steps)
    # A single process with a single batch draws what it drew before there were others.
    places = [(step, batch) if batch else (step,) for batch in batches]
    return torch.cat(
        [draw_latents(config.batch_size, config.nz, config.seed, "latents", *p, device=device) for p in places]
    )
