"""What goes into a training step: real images and latents, as functions of the step."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from d3gan.config.train_config import TrainConfig
from d3gan.data.batches import Batches
from d3gan.distributed.group import Group
from d3gan.randomness import draw_labels, draw_latents, stream
from d3gan.training.md_gan import swap_partners, workers_of
from d3gan.training.setup import make_augmentation
from d3gan.training.step import StepContext
from d3gan.training.terms import draw_mixtures
from d3gan.training.weighting import WEIGHTINGS


class StepInputs:
    """One process's real images and latents of each training step.

    Args:
        config: of the run.
        images: (M, C, S, S) uint8, or points (M, 2) float32: the training set.
        group: the processes, which share out the images and latents of each step.
        device: where to put the inputs.
        dtype: floating type of both.
        labels: (M,) int64 of the images; None: the networks have no classes.

    Raises:
        ConfigError: fewer images than one step takes, or, with shards, batches or discriminators that cannot be
            divided.
    """

    def __init__(
        self,
        config: TrainConfig,
        images: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
        group: Group,
        device: torch.device,
        dtype: torch.dtype,
        labels: npt.NDArray[np.int64] | None = None,
    ):
        self._config, self._group, self._device, self._dtype = config, group, device, dtype
        shards = config.recipe.discriminators if workers_of(config, group) is not None else 0
        ranks = group.rank, group.world_size, shards
        augmentation = make_augmentation(config)
        self._draws = augmentation.draws if augmentation is not None else 0
        self._batches = Batches(images, config.images_per_step, config.nc, config.seed, device, dtype, *ranks, labels)
        self._class_counts = np.bincount(labels).tolist() if labels is not None else []

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which all processes together see each image once; a last, incomplete step is left out."""
        return self._batches.steps_per_epoch

    def at(self, step: int) -> tuple[Tensor, Tensor, StepContext]:
        """Real images (A d N, C, S, S) in [-1, 1], latents (A d N, nz) and context of a step, on the device.

        A is ``grad_accum_steps``, d ``d_steps`` and N ``batch_size``; steps count from 0. With shards, A is the
        number of this process's discriminators, and N the A-th part of ``batch_size``.
        """
        latents = latents_of_step(self._config, step, self._group.rank, self._device, self._group.world_size)
        return self._real_images(step), latents.to(self._dtype), self._context(step)

    def _real_images(self, step: int) -> Tensor:
        images = self._batches.at(step)
        if self._config.flips:
            batches, size = _batches_of_rank(self._config, self._group.rank, self._group.world_size)
            rngs = [stream(self._config.seed, "flips", step, batch, device=self._device) for batch in batches]
            flipped = torch.cat([torch.rand(size, generator=rng, device=self._device) < 0.5 for rng in rngs])
            images = torch.where(flipped[:, None, None, None], images.flip(-1), images)
        return images

    def _context(self, step: int) -> StepContext:
        """What the config's rules, penalties, views and terms ask for, and nothing else."""
        config, device, context = self._config, self._device, StepContext(step)
        batches, size = _batches_of_rank(config, self._group.rank, self._group.world_size)

        def streams(purpose: str) -> list[torch.Generator]:
            return [stream(config.seed, purpose, step, batch, device=device) for batch in batches]

        if WEIGHTINGS[config.recipe.weighting].draws:
            # The same in all processes: a function of seed and step alone.
            rng = stream(config.seed, "weighting", step)
            uniforms = torch.rand(config.recipe.discriminators + 1, generator=rng).to(device)
            context = replace(context, uniforms=uniforms)
        if any(penalty.name == "gp" for penalty in config.penalties):
            mixing = torch.cat([torch.rand(size, generator=rng, device=device) for rng in streams("mixing")])
            context = replace(context, mixing=mixing)
        if config.recipe.sharded == "on" and config.swap_every and step > 0:
            swap, rest = divmod(step, config.swap_every * self.steps_per_epoch)
            if rest == 0:
                partners = swap_partners(config.recipe.discriminators, stream(config.seed, "swap", swap))
                context = replace(context, partners=partners)
        if config.follows_the_run:
            done = step / (config.epochs * self.steps_per_epoch)
            context = replace(context, progress=torch.full((), done, dtype=self._dtype, device=device))
        if config.recipe.duel_beta:
            mixtures = torch.stack([draw_mixtures(config.batch_size, rng) for rng in streams("duel")])
            context = replace(context, mixtures=mixtures)
        if self._class_counts:
            drawn = [
                draw_labels(size, self._class_counts, config.seed, "fake labels", step, batch, device=device)
                for batch in batches
            ]
            real_labels = self._batches.labels_at(step)
            context = replace(context, real_labels=real_labels, fake_labels=torch.cat(drawn))
        if "dropout" in config.view_names:
            context = replace(context, mask_seeds=tuple(rng.initial_seed() for rng in streams("dropout")))
        if self._draws:
            shape = 2, 2, size, self._draws
            drawn = [torch.rand(shape, generator=rng, device=device) for rng in streams("augment")]
            context = replace(context, augment=torch.stack(drawn))
        return context


def _batches_of_rank(config: TrainConfig, rank: int, world_size: int) -> tuple[range, int]:
    """The numbers of a process's batches among all of a step, and the images in each."""
    parts, size = config.grad_accum_steps, config.batch_size
    if config.recipe.sharded == "on":
        parts = config.recipe.discriminators // world_size
        size = config.batch_size // parts
    own = parts * config.d_steps
    return range(rank * own, (rank + 1) * own), size


def latents_of_step(
    config: TrainConfig, step: int, rank: int, device: torch.device, world_size: int = 1
) -> torch.Tensor:
    """A process's latents of a training step, (grad_accum_steps x d_steps x batch_size, nz) float32.

    Each batch of the step, of all processes, draws from a stream of its own: who processes it makes no difference.

    Args:
        config: of the run.
        step: from 0.
        rank: of the process.
        device: where to draw.
        world_size: number of processes, among which shards are divided.
    """
    batches, size = _batches_of_rank(config, rank, world_size)
    # A single process with a single batch draws what it drew before there were others.
    places = [(step, batch) if batch else (step,) for batch in batches]
    return torch.cat([draw_latents(size, config.nz, config.seed, "latents", *p, device=device) for p in places])
