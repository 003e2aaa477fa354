"""Shuffled batches of real images, as a function of the step."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from d3gan.errors import ConfigError
from d3gan.images import from_uint8
from d3gan.randomness import stream

# The largest share of a GPU's free memory that the images may take; the networks need the rest.
RESIDENT_SHARE = 0.5


class Batches:
    """Real images in a new order each epoch; the batch of a step depends on the seed and the step alone.

    Each epoch visits every image at most once: the last, incomplete batch is left out, so that all batches have one
    size. A GPU holds the images in its memory if they fit in half of what is free; otherwise, and on the CPU, they
    stay memory-mapped and each batch is read from there.

    Args:
        images: (M, C, S, S) uint8, or points (M, 2) float.
        batch_size: images per batch of this process.
        channels: channels of the batches; grey images (C = 1) are repeated.
        seed: decides the order.
        device: of the batches.
        dtype: floating type of the batches.
        rank: this process's number. The processes divide each epoch's images: a step takes world_size times
            batch_size of them, this process gets the rank-th part, and no two processes get the same image.
        world_size: number of processes.
        shards: K, a multiple of world_size: the images are divided at random into K parts of one size, whatever
            the number of processes; a remainder is left out. Each process has K / world_size of them in order, and
            its batch is as many parts, each from one shard. 0: all processes take from all images.
        labels: (M,) int64 of the images, where their batches are asked for.

    Raises:
        ConfigError: there are fewer images than one step takes.
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
        batch_size: int,
        channels: int,
        seed: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        rank: int = 0,
        world_size: int = 1,
        shards: int = 0,
        labels: npt.NDArray[np.int64] | None = None,
    ):
        step_size = batch_size * world_size
        if len(images) < step_size:
            together = f", {step_size} with all {world_size} processes" if world_size > 1 else ""
            raise ConfigError(
                f"batch_size = {batch_size}{together}: must be at most {len(images)}, the number of training images; "
                f"give a smaller --batch-size"
            )
        self.steps_per_epoch = len(images) // step_size  # also with K shards, each of which gives a K-th part of both
        self._images = images
        self._rank, self._world_size, self._shards = rank, world_size, shards
        self._batch_size, self._channels, self._seed = batch_size, channels, seed
        self._device, self._dtype = device, dtype
        self._resident = torch.tensor(images[:], device=device) if self._fits_on_device() else None
        self._labels = None if labels is None else torch.tensor(labels)
        if self._labels is not None and self._resident is not None:
            self._labels = self._labels.to(device)
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def _fits_on_device(self) -> bool:
        if self._device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(self._device)
        return self._images.nbytes < RESIDENT_SHARE * free

    def at(self, step: int) -> Tensor:
        """This process's batch of step ``step`` (from 0): (N, channels, S, S) in [-1, 1] or (N, 2), on the device."""
        indices = self._indices(step)
        if self._resident is not None:
            batch = self._resident.index_select(0, indices)
        else:
            batch = torch.from_numpy(self._images[indices.numpy()])
            batch = _pinned(batch).to(self._device, non_blocking=True)
        if batch.is_floating_point():
            return batch.to(self._dtype)
        return from_uint8(batch, self._dtype).expand(-1, self._channels, -1, -1)

    def labels_at(self, step: int) -> Tensor | None:
        """The labels (N,) int64 of the images of ``at(step)``, on the device; None where there are no labels."""
        if self._labels is None:
            return None
        labels = self._labels.index_select(0, self._indices(step))
        return labels if self._resident is not None else _pinned(labels).to(self._device, non_blocking=True)

    def _indices(self, step: int) -> Tensor:
        """Which images this process's batch of a step has, (N,) int64; on the device if the images are."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            order = self._shards_in_order(epoch) if self._shards else self._images_in_order(epoch)
            # Pinned, so that the host does not wait for the copy.
            self._order = order if self._resident is None else _pinned(order).to(self._device, non_blocking=True)
            self._epoch = epoch
        return self._order[step_in_epoch]

    def _images_in_order(self, epoch: int) -> Tensor:
        """The indices of this process's images in the order of an epoch, (steps, batch_size) int64."""
        shape = self.steps_per_epoch, self._world_size, self._batch_size
        order = torch.randperm(len(self._images), generator=stream(self._seed, "order", epoch))
        return order[: math.prod(shape)].view(shape)[:, self._rank].contiguous()

    def _shards_in_order(self, epoch: int) -> Tensor:
        """The same, from this process's shards."""
        images, own = len(self._images) // self._shards, self._shards // self._world_size
        shards = torch.randperm(len(self._images), generator=stream(self._seed, "shards")).split(images)
        shape = self.steps_per_epoch, self._batch_size // own
        parts = []
        for k in range(self._rank * own, (self._rank + 1) * own):
            order = torch.randperm(images, generator=stream(self._seed, "order", epoch, k))
            parts.append(shards[k][order[: math.prod(shape)]].view(shape))
        return torch.cat(parts, dim=1)


def _pinned(tensor: Tensor) -> Tensor:
    """The tensor in page-locked memory, which a GPU copies from while the host goes on; unchanged without a GPU."""
    return tensor.pin_memory() if torch.cuda.is_available() else tensor
