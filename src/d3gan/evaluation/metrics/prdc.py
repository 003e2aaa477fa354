"""Precision, recall, density, coverage and authenticity: whether images are near neighbours of the other set's."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from d3gan.evaluation.metrics.features import UnusableFeaturesError, require_finite

NEAREST = 5
"""k, the neighbours that define an image's ball, as in the code of Naeem et al. 2020; authenticity takes one."""

_ROWS = 500  # of a distance matrix at a time: with 10,000 columns 40 MB


@dataclass(frozen=True)
class Neighbors:
    """The metrics per image; each metric is the mean."""

    precision: Tensor
    """(M,) float64, 0 or 1: the fake image is in the ball of some real one (Kynkaanniemi et al. 2019)."""
    recall: Tensor
    """(N,) float64, 0 or 1: the real image is in the ball of some fake one (Kynkaanniemi et al. 2019)."""
    density: Tensor
    """(M,) float64: number of real images' balls that hold the fake one, over k (Naeem et al. 2020, equation 3)."""
    coverage: Tensor
    """(N,) float64, 0 or 1: the real image's ball holds some fake one (Naeem et al. 2020, equation 4)."""
    authenticity: Tensor
    """(M,) float64, 0 or 1: the fake image is no copy: it is not nearer to its nearest real one than any other real
    image is to that, and not equal to it (Alaa et al. 2022, "authenticity")."""


def neighbors(real: Tensor, fake: Tensor, nearest: int = NEAREST) -> Neighbors:
    """Compares two sets by their nearest neighbours.

    An image's ball extends to the k-th nearest other image of its own set, which is just outside of it. Squared
    distances come from a matrix product in float64; those within rounding of 0 count as 0, and those within rounding
    of the ball's edge as outside, so that rounding decides nothing.

    Kynkaanniemi et al. 2019 (arXiv:1904.06991), Naeem et al. 2020 (arXiv:2002.09797),
    Alaa et al. 2022 (arXiv:2102.08921).

    Args:
        real: (N, D) features, N > ``nearest``.
        fake: (M, D) features, M > ``nearest``.
        nearest: k.

    Raises:
        UnusableFeaturesError: too few images, different D, or a number that is not finite.
    """
    if min(len(real), len(fake)) <= nearest or real.shape[1] != fake.shape[1]:
        raise UnusableFeaturesError(
            f"features {tuple(real.shape)} and {tuple(fake.shape)}: precision and recall need more than {nearest} "
            "images of each set and one D"
        )
    for features in (real, fake):
        require_finite(features)
    # Positions are relative to the centre: a common offset would cost digits of the differences.
    center = real.mean(dim=0, dtype=torch.float64)
    (real_nearest, real_radii), (_, fake_radii) = _radii(real, center, nearest), _radii(fake, center, nearest)
    recall, coverage = [], []
    balls = torch.zeros(len(fake), dtype=torch.float64, device=fake.device)
    closest, allowed = torch.full_like(balls, torch.inf), torch.zeros_like(balls)
    for rows, distances in _distances(real, fake, center):
        in_real = distances < real_radii[rows, None] * (1 - 1e-9)
        balls += in_real.sum(dim=0)
        coverage.append(in_real.any(dim=1))
        recall.append((distances < fake_radii * (1 - 1e-9)).any(dim=1))
        here, row = distances.min(dim=0)
        allowed = torch.where(here < closest, real_nearest[rows][row], allowed)
        closest = torch.minimum(here, closest)
    return Neighbors(
        (balls > 0).double(),
        torch.cat(recall).double(),
        balls / nearest,
        torch.cat(coverage).double(),
        ((closest >= allowed * (1 - 1e-9)) & (closest > 0)).double(),
    )


def _distances(a: Tensor, b: Tensor, center: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yields the squared distances (N, M) between two sets, float64, some rows at a time."""
    distances = torch.empty(min(_ROWS, len(a)), len(b), dtype=torch.float64, device=b.device)
    for start in range(0, len(a), _ROWS):
        rows = slice(start, min(start + _ROWS, len(a)))
        x = a[rows].double() - center
        # A block at a time in float64, so that memory never holds a second copy of a set.
        for first in range(0, len(b), _ROWS):
            y = b[first : first + _ROWS].double() - center
            scale = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
            block = torch.addmm(scale, x, y.T, alpha=-2)
            block.masked_fill_(block < 1e-10 * scale, 0.0)
            distances[: len(x), first : first + _ROWS] = block
        yield rows, distances[: len(x)]


def _radii(features: Tensor, center: Tensor, nearest: int) -> tuple[Tensor, Tensor]:
    """(N,) and (N,): squared distance of each image to its nearest, and to its k-th nearest other one."""
    # k + 1, as each image is its own nearest neighbour.
    smallest = [d.topk(nearest + 1, largest=False).values for _, d in _distances(features, features, center)]
    return torch.cat([each[:, 1] for each in smallest]), torch.cat([each[:, -1] for each in smallest])
