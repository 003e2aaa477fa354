"""Precision, recall, density and coverage: whether images lie among the neighbours of the other set's images."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from d3gan.evaluation.statistics import UnusableFeaturesError, require_finite

NEAREST = 5
"""Neighbours that span an image's ball, for all four metrics, as in the code that came with Naeem et al. 2020."""

_ROWS = 1000  # of a distance matrix at once: with 10,000 columns 80 MB


@dataclass(frozen=True)
class Neighbours:
    """What each image says; the four metrics are the means."""

    precision: Tensor
    """(M,) float64, 0 or 1: the fake image lies in the ball of some real one (Kynkaanniemi et al. 2019)."""
    recall: Tensor
    """(N,) float64, 0 or 1: the real image lies in the ball of some fake one (likewise)."""
    density: Tensor
    """(M,) float64: balls of real images that the fake one lies in, over k (Naeem et al. 2020, equation 3)."""
    coverage: Tensor
    """(N,) float64, 0 or 1: the real image's ball holds some fake one (likewise, equation 4)."""


def neighbours(real: Tensor, fake: Tensor, nearest: int = NEAREST) -> Neighbours:
    """Compares two sets by their nearest neighbours.

    An image's ball reaches to the k-th nearest other image of its own set, which lies just outside of it. Squared
    distances come from a matrix product in float64; what is within rounding of 0, or of the ball's edge, counts as 0,
    or as outside, so that rounding decides nothing.

    Kynkaanniemi et al. 2019 (arXiv:1904.06991), Naeem et al. 2020 (arXiv:2002.09797).

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
    centre = real.double().mean(dim=0)
    # Centred, because a common offset would cost the digits of the differences.
    reals, fakes = real.double() - centre, fake.double() - centre
    real_radii, fake_radii = _radii(reals, nearest), _radii(fakes, nearest)
    recall, coverage = [], []
    balls = torch.zeros(len(fakes), dtype=torch.float64, device=fakes.device)
    for rows, distances in _distances(reals, fakes):
        in_real = distances < real_radii[rows, None] * (1 - 1e-9)
        balls += in_real.sum(dim=0)
        coverage.append(in_real.any(dim=1))
        recall.append((distances < fake_radii * (1 - 1e-9)).any(dim=1))
    return Neighbours((balls > 0).double(), torch.cat(recall).double(), balls / nearest, torch.cat(coverage).double())


def _distances(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some rows at a time of the squared distances (N, M) between two sets."""
    a_norms, b_norms = a.square().sum(dim=1), b.square().sum(dim=1)
    for start in range(0, len(a), _ROWS):
        rows = slice(start, start + _ROWS)
        scale = a_norms[rows, None] + b_norms
        distances = torch.addmm(scale, a[rows], b.T, alpha=-2)
        distances[distances < 1e-10 * scale] = 0.0
        yield rows, distances


def _radii(features: Tensor, nearest: int) -> Tensor:
    """(N,) squared distance of each image to its k-th nearest other one."""
    # k + 1, as each image is its own nearest neighbour.
    found = [distances.kthvalue(nearest + 1, dim=1).values for _, distances in _distances(features, features)]
    return torch.cat(found)
