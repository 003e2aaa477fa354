"""The sizes of networks: their widths by resolution, and how discriminators that differ do.

Imports no torch: the cost of a run is known before a network is built.
"""

import math
from typing import NamedTuple

DIMENSIONS = 2
"""Numbers of a point, which the mlp networks make and judge."""
PIECES = 5
"""Linear pieces of a maxout unit of the mlp discriminator (Goodfellow et al., arXiv:1302.4389)."""

IMAGE_SIZES = {
    "dcgan": (16, 32, 64, 128, 256),
    "sndcgan": (16, 32, 48, 64, 128, 256),
}
"""Sides of the images, in pixels, that each network makes and judges; mlp has points instead."""


def stage_multipliers(image_size: int) -> list[int]:
    """The DCGAN's width multipliers from the image inwards, one for each halving of the resolution.

    Every stage inwards doubles the width, up to 8 times. Up to 32 pixels the innermost map is 2 x 2, as published;
    from 64 pixels on it is 4 x 4, as in the DCGAN paper.

    Args:
        image_size: side of the image in pixels: 16, 32, 64, 128 or 256.

    Returns:
        For 16: [1, 2, 4]; 32 and 64: [1, 2, 4, 8]; 128: [1, 2, 4, 8, 8]; 256: [1, 2, 4, 8, 8, 8].
    """
    return [min(2**i, 8) for i in range(int(math.log2(image_size // innermost_size(image_size))))]


def innermost_size(image_size: int) -> int:
    """Side in pixels of the smallest feature map."""
    if image_size not in (16, 32, 64, 128, 256):
        raise ValueError(f"image_size = {image_size}: must be 16, 32, 64, 128 or 256")
    return 2 if image_size <= 32 else 4


def halved(image_size: int, times: int) -> int:
    """Side in pixels of a map after its side was halved so many times."""
    return image_size >> times


def sndcgan_multipliers(image_size: int) -> list[int]:
    """The SNDCGAN's width multipliers from the image inwards: the first for the whole side, one for each halving.

    Every halving doubles the width, up to 8 times, until the map is 4 x 4; at 48 pixels, 6 x 6.

    Args:
        image_size: side of the image in pixels, one of ``IMAGE_SIZES``.

    Returns:
        For 16: [1, 2, 4]; 32 and 48: [1, 2, 4, 8]; 64: [1, 2, 4, 8, 8].
    """
    return [min(2**i, 8) for i in range(int(math.log2(image_size // 4)) + 1)]


def discriminator_width(ndf: int, k: int, discriminators: int) -> int:
    """Channels of the first layer of discriminator k of K where they have different sizes: ndf (K - k) / K.

    acGAN's paper (arXiv:1808.00020) has discriminators of different sizes; this rule is ours. The first one has the
    full width, and none has less than one channel.
    """
    return max(1, round(ndf * (discriminators - k) / discriminators))


class Projection(NamedTuple):
    """The sizes of a convolution that maps an image to one channel."""

    kernel: int
    stride: int
    padding: int
    side: int
    """Of the projected image in pixels."""
    image_size: int
    """For which the discriminator of projected images is made."""


def projection(image_size: int) -> Projection:
    """4 x 4 pixels without halving the side; from 64 pixels on 8 x 8, which halves it.

    As in the program of hGAN (arXiv:1901.08680). At 16 and 32 pixels the projected image has one row and one column
    more than the image, in place of padding on two sides of the first convolution of its discriminator.

    Args:
        image_size: side of the image in pixels.
    """
    if image_size < 64:
        return Projection(4, 1, 2, image_size + 1, image_size)
    return Projection(8, 2, 3, image_size // 2, image_size // 2)
