"""Widths of the networks' layers. Imports no torch: the cost of a run is known before a network is built."""

import math

DIMENSIONS = 2
"""Numbers of a point, which the mlp networks make and judge."""
PIECES = 5
"""Linear pieces of a maxout unit of the mlp discriminator (Goodfellow et al., arXiv:1302.4389)."""


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
