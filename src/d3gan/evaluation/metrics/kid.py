"""KID, the kernel distance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from d3gan.evaluation.metrics.features import UnusableFeaturesError, require_finite, to_float64


@dataclass(frozen=True)
class KernelDistance:
    """KID: mean and standard deviation over subsets, images per subset, and number of subsets."""

    mean: float
    deviation: float | None
    """None if a subset holds all images of both sets, so that there is only one subset."""
    subset_size: int
    subsets: int


def kernel_distance(
    a: Tensor, b: Tensor, rng: torch.Generator, subsets: int = 100, subset_size: int = 1000
) -> KernelDistance:
    """KID: the unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, over random subsets.

    Binkowski et al. 2018 (arXiv:1801.01401), section 4 and equation 4. Being unbiased, it may be negative.

    Args:
        a: (N, D) features.
        b: (M, D) features.
        rng: draws the subsets, without replacement.
        subsets: number of subsets.
        subset_size: images per subset; at most the size of the smaller set. If that is all images of both sets, there
            is only one subset.

    Raises:
        UnusableFeaturesError: fewer than two images, different D, or a number that is not finite.
    """
    size = min(subset_size, len(a), len(b))
    if size < 2 or a.shape[1] != b.shape[1]:
        raise UnusableFeaturesError(f"features {tuple(a.shape)} and {tuple(b.shape)}: KID needs two images and one D")
    for features in (a, b):
        require_finite(features)
    if size == len(a) == len(b):
        return KernelDistance(float(_unbiased_mmd(to_float64(a), to_float64(b))), None, size, 1)
    values = []
    for _ in range(subsets):
        subset_a, subset_b = (x[torch.randperm(len(x), generator=rng)[:size].to(x.device)] for x in (a, b))
        values.append(_unbiased_mmd(to_float64(subset_a), to_float64(subset_b)))
    distances = torch.stack(values)
    return KernelDistance(float(distances.mean()), float(distances.std(correction=0)), size, subsets)


def polynomial_kernel(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) of (N, D) and (M, D): (x.y / D + 1)^3 for each pair."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def _unbiased_mmd(a: Tensor, b: Tensor) -> Tensor:
    """() float64: squared MMD of two sets of n features each, without pairs of an image with itself."""
    n = len(a)
    within = [polynomial_kernel(x, x) for x in (a, b)]
    across = polynomial_kernel(a, b)
    pairs = sum(kernel.sum() - kernel.diagonal().sum() for kernel in within)
    return torch.as_tensor(pairs / (n * (n - 1)) - 2 * across.mean())
