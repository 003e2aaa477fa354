"""Wavelet filters as matrices that act on the rows and columns of an image, with its edges mirrored.

A matrix holds the mirroring too, whatever the filter's length, and products of matrices are exact to rounding, repeat
bit for bit, and are differentiable as often as one likes.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from d3gan.augmentation.base import reflected

Filter = npt.NDArray[np.float64]

# The orthonormal low-pass filters of 2 and 6 vanishing moments with the least asymmetric phase (Daubechies: Ten
# Lectures on Wavelets, sections 6.4 and 8.1). That of 2 is her D4; that of 6 follows from the factorisation of her
# polynomial, of whose eight the one with the most nearly linear phase is taken.
SYM2: Filter = np.array([1 - 3**0.5, 3 - 3**0.5, 3 + 3**0.5, 1 + 3**0.5]) / 2**2.5
SYM6: Filter = np.array(
    [
        0.015404109327027373,
        0.0034907120842174702,
        -0.11799011114819057,
        -0.048311742585633,
        0.4910559419267466,
        0.787641141030194,
        0.3379294217276218,
        -0.07263752278646252,
        -0.021060292512300564,
        0.04472490177066578,
        0.0017677118642428036,
        -0.007800708325034148,
    ]
)

BANDS = 4
MARGIN = 6
"""Samples at twice the resolution that ``doubling`` computes beyond the image on each side."""
DELAY = float((np.arange(12) * SYM6).sum() / SYM6.sum()) - 5
"""Pixel i of an image is at 2 i + DELAY among the samples at twice the resolution: the filter's centre of mass."""


def doubling(size: int) -> Tensor:
    """Twice the resolution by SYM6, (2 size + 2 MARGIN, size) float64: u[j] = √2 Σ_i h[j - 2 i + 5] x[i].

    Row 0 is sample j = -MARGIN.
    """
    samples = torch.arange(-MARGIN, 2 * size + MARGIN)
    matrix = torch.zeros(len(samples), size, dtype=torch.float64)
    for i in range(-MARGIN, size + MARGIN):
        taps = samples - 2 * i + 5
        inside = (taps >= 0) & (taps < 12)
        matrix[inside, int(reflected(torch.tensor(i), size))] += 2**0.5 * torch.from_numpy(SYM6)[taps[inside]]
    return matrix


def halving(size: int) -> Tensor:
    """The way back, (size, 2 size + 10) float64: x[i] = Σ_j h[j - 2 i + 5] u[j] / √2 of samples j = -5 … 2 size + 4.

    The filter is orthonormal, so this undoes ``doubling`` exactly.
    """
    matrix = torch.zeros(size, 2 * size + 10, dtype=torch.float64)
    for i in range(size):
        matrix[i, 2 * i : 2 * i + 12] = torch.from_numpy(SYM6) / 2**0.5
    return matrix


def band_filters() -> list[Filter]:
    """Four symmetric filters of 43 taps that pass [0, π/8], [π/8, π/4], [π/4, π/2] and [π/2, π], and add up to 1.

    L(z) = H(z) H(1/z) / 2 with SYM2 as H is a symmetric low-pass filter, and 1 - L the high-pass one of its mirror
    filter, since H is orthonormal. The bands are L(z) L(z²) L(z⁴), L(z) L(z²) (1 - L(z⁴)), L(z) (1 - L(z²)) and
    1 - L(z).
    """
    low = np.convolve(SYM2, SYM2[::-1]) / 2
    passed, bands = np.ones(1), []
    for level in range(BANDS - 1):
        spread = np.zeros(6 * 2**level + 1)
        spread[:: 2**level] = low
        rest = -spread
        rest[len(rest) // 2] += 1
        bands.append(np.convolve(passed, rest))
        passed = np.convolve(passed, spread)
    bands.append(passed)
    return [np.pad(each, (len(passed) - len(each)) // 2) for each in reversed(bands)]


def band_matrices(size: int) -> Tensor:
    """``band_filters`` on a line of ``size`` pixels, (4, size, size) float64."""
    matrices = torch.zeros(BANDS, size, size, dtype=torch.float64)
    for band, taps in zip(matrices, band_filters(), strict=True):
        half = len(taps) // 2
        for i in range(size):
            sources = reflected(torch.arange(i - half, i + half + 1), size)
            band[i].index_add_(0, sources, torch.from_numpy(taps))
    return matrices
