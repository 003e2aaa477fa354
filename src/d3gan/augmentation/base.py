"""What all augmentations share: a function of images and of uniform numbers, and the operations that move pixels."""

import math

import torch
from torch import Tensor, nn


class Augmentation(nn.Module):
    """A random change of images, differentiable as often as one likes with respect to them.

    It draws nothing itself: whoever calls it hands it uniform numbers, so that it is a function, and can be part of
    a CUDA graph.
    """

    draws: int
    """Uniform numbers that it takes for each image."""

    def forward(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """The augmented images, (N, C, S, S), in at least float32 also under autocast: bf16 has 8 bits for a place.

        Args:
            images: (N, C, S, S) in [-1, 1], of any floating dtype.
            uniforms: (N, draws) in [0, 1).
        """
        images = images if images.element_size() >= 4 else images.float()
        with torch.autocast(images.device.type, enabled=False):
            return self.change(images, uniforms.to(images.dtype))

    def change(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """As ``forward``, with both in one dtype, outside autocast."""
        raise NotImplementedError


def normal(uniforms: Tensor) -> Tensor:
    """Numbers from N(0, 1) for uniform ones in [0, 1), by the inverse of the distribution function."""
    return math.sqrt(2) * torch.erfinv(2 * uniforms.clamp(min=2.0**-25) - 1)  # torch.rand may give 0: minus infinity


def whole(uniforms: Tensor, count: int) -> Tensor:
    """Whole numbers 0 … count - 1, int64, each as likely, for uniform ones in [0, 1)."""
    return (uniforms * count).long().clamp(max=count - 1)  # float32 may round up to count


def pixels(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels of each image at these places.

    Of the ways to gather, this indexing alone adds up its gradient in one order on a GPU too, and can be
    differentiated again.

    Args:
        images: (N, C, H, W).
        rows: (N, …) int64.
        columns: (N, …) int64.

    Returns:
        (N, …, C).
    """
    N, C, H, W = images.shape
    first = torch.arange(N, device=images.device).view(N, *[1] * (rows.ndim - 1)) * (H * W)
    return images.permute(0, 2, 3, 1).reshape(N * H * W, C)[first + rows * W + columns]


def reflected(places: Tensor, size: int) -> Tensor:
    """Places on a line mirrored, as often as need be, at the centres of its first and last pixel: 0 … size - 1."""
    period = 2 * (size - 1)
    places = places.remainder(period)
    return torch.where(places > size - 1, period - places, places)
