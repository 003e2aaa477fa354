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
    "resnet": (32, 48, 64, 128),
    "r3gan": (16, 32, 64, 128, 256),
}
"""Sides of the images, in pixels, that each network makes and judges; mlp has points instead."""

WITHOUT_BATCH_NORM = ("resnet", "r3gan")
"""Networks whose discriminators have no place for BatchNorm."""


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


class ResNet(NamedTuple):
    """The sizes of the residual networks for one resolution."""

    generator: tuple[int, ...]
    """Width multipliers of its maps, from the image inwards; between two of them a block halves the side."""
    discriminator: tuple[int, ...]
    """Width multipliers of its blocks, from the image inwards."""
    halvings: int
    """How many of these, from the first on, halve the side."""


# From 48 pixels on as in kwotsin/mimicry, at 32 as in the paper.
RESNETS = {
    32: ResNet((1, 1, 1, 1), (1, 1, 1, 1), 2),
    48: ResNet((1, 2, 4, 8), (1, 2, 4, 8, 16), 4),
    64: ResNet((1, 2, 4, 8, 16), (1, 2, 4, 8, 16), 5),
    128: ResNet((1, 2, 4, 8, 16, 16), (1, 2, 4, 8, 16, 16), 5),
}

R3GAN_BLOCKS = 2
"""Blocks of R3GAN's networks at each resolution."""


def r3gan_multipliers(image_size: int) -> list[int]:
    """R3GAN's width multipliers from the image inwards, one for each resolution down to 4 x 4.

    Every halving doubles the width until the side is 32 pixels, as in the program's presets for FFHQ; from there on
    it stays.

    Args:
        image_size: side of the image in pixels, one of ``IMAGE_SIZES``.

    Returns:
        For 16: [1, 1, 1]; 32: [1, 1, 1, 1]; 64: [1, 2, 2, 2, 2]; 256: [1, 2, 4, 8, 8, 8, 8].
    """
    return [min(2**i, max(1, image_size // 32)) for i in range(int(math.log2(image_size // 4)) + 1)]


def r3gan_group(channels: int) -> int:
    """Channels in a group of a block's convolution: 16, as in all of the program's presets, where 8 divides channels.

    Args:
        channels: of the block; the convolution has twice as many.
    """
    return math.gcd(2 * channels, 16)


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
