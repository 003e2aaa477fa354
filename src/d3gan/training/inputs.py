"""What goes into a training step: real images and latents, as functions of the step."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from d3gan.config.train_config import TrainConfig
from d3gan.data.batches import Batches
from d3gan.distributed.group import Group
from d3gan.randomness import draw_latents, stream
from d3gan.training.step import StepContext
from d3gan.training.terms import draw_mixtures
from d3gan.training.weighting import WEIGHTINGS


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
        ranks = group.rank, group.world_size
        self._batches = Batches(images, config.images_per_step, config.nc, config.seed, device, dtype, *ranks)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which all processes together see each image once; a last, incomplete step is left out."""
        return self._batches.steps_per_epoch

    def at(self, step: int) -> tuple[Tensor, Tensor, StepContext]:
        """Real images (A d N, C, S, S) in [-1, 1], latents (A d N, nz) and context of a step, on the device.

        A is ``grad_accum_steps``, d ``d_steps`` and N ``batch_size``; steps count from 0.
        """
        latents = latents_of_step(self._config, step, self._group.rank, self._device)
        return self._batches.at(step), latents.to(self._dtype), self._context(step)

    def _context(self, step: int) -> StepContext:
        """What the config's rules, penalties, views and terms ask for, and nothing else."""
        config, device, context = self._config, self._device, StepContext(step)
        batches = _batches_of_rank(config, self._group.rank)

        def streams(purpose: str) -> list[torch.Generator]:
            return [stream(config.seed, purpose, step, batch, device=device) for batch in batches]

        if WEIGHTINGS[config.recipe.weighting].draws:
            # The same in all processes: a function of seed and step alone.
            rng = stream(config.seed, "weighting", step)
            uniforms = torch.rand(config.recipe.discriminators + 1, generator=rng).to(device)
            context = replace(context, uniforms=uniforms)
        if any(penalty.name == "gp" for penalty in config.penalties):
            size = config.batch_size
            mixing = torch.cat([torch.rand(size, generator=rng, device=device) for rng in streams("mixing")])
            context = replace(context, mixing=mixing)
        if config.follows_the_run:
            done = step / (config.epochs * self.steps_per_epoch)
            context = replace(context, progress=torch.full((), done, dtype=self._dtype, device=device))
        if config.recipe.duel_beta:
            mixtures = torch.stack([draw_mixtures(config.batch_size, rng) for rng in streams("duel")])
            context = replace(context, mixtures=mixtures)
        if "dropout" in config.view_names:
            context = replace(context, mask_seeds=tuple(rng.initial_seed() for rng in streams("dropout")))
        return context


def _batches_of_rank(config: TrainConfig, rank: int) -> range:
    """The numbers of a process's batches among all of a step."""
    own = config.grad_accum_steps * config.d_steps
    return range(rank * own, (rank + 1) * own)


def latents_of_step(config: TrainConfig, step: int, rank: int, device: torch.device) -> torch.Tensor:
    """A process's latents of a training step, (grad_accum_steps x d_steps x batch_size, nz) float32.

    Each batch of the step, of all processes, draws from a stream of its own: who processes it makes no difference.

    Args:
        config: of the run.
        step: from 0.
        rank: of the process.
        device: where to draw.
    """
    # A single process with a single batch draws what it drew before there were others.
    places = [(step, batch) if batch else (step,) for batch in _batches_of_rank(config, rank)]
    return torch.cat(
        [draw_latents(config.batch_size, config.nz, config.seed, "latents", *p, device=device) for p in places]
    )
