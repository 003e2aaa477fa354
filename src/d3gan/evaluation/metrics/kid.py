"""KID, the kernel distance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from d3gan.evaluation.metrics.features import UnusableFeaturesError, _float64, require_finite


@dataclass(frozen=True)
class KernelDistance:
    """KID: mean and standard deviation over subsets, how many images a subset has, and how many subsets."""

    mean: float
    deviation: float | None
    """None: a subset is all images of both sets, so that there is one subset only."""
    subset_size: int
    subsets: int


def kernel_distance(
    a: Tensor, b: Tensor, generator: torch.Generator, subsets: int = 100, subset_size: int = 1000
) -> KernelDistance:
    """KID: the unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, over random subsets.

    Binkowski et al. 2018 (arXiv:1801.01401), section 4 and equation 4. Being unbiased, it may be negative.

    Args:
        a: (N, D) features.
        b: (M, D) features.
        generator: draws the subsets, without replacement.
        subsets: how many.
        subset_size: images in each; where a set has fewer, as many as the smaller set has. Where that is all images
            of both sets there is only one subset.

    Raises:
        UnusableFeaturesError: fewer than two images, different D, or a number that is not finite.
    """
    size = min(subset_size, len(a), len(b))
    if size < 2 or a.shape[1] != b.shape[1]:
        raise UnusableFeaturesError(f"features {tuple(a.shape)} and {tuple(b.shape)}: KID needs two images and one D")
    for features in (a, b):
        require_finite(features)
    if size == len(a) == len(b):
        return KernelDistance(float(_unbiased_mmd(_float64(a), _float64(b))), None, size, 1)
    values = []
    for _ in range(subsets):
        one, other = (x[torch.randperm(len(x), generator=generator)[:size].to(x.device)] for x in (a, b))
        values.append(_unbiased_mmd(_float64(one), _float64(other)))
    found = torch.stack(values)
    return KernelDistance(float(found.mean()), float(found.std(correction=0)), size, subsets)


def polynomial_kernel(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) of (N, D) and (M, D): (x.y / D + 1)^3 for each pair."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def _unbiased_mmd(a: Tensor, b: Tensor) -> Tensor:
    """() float64: squared MMD of two sets of n features each, without the pairs of an image with itself."""
    n = len(a)
    within = [polynomial_kernel(x, x) for x in (a, b)]
    across = polynomial_kernel(a, b)
    own = sum(kernel.sum() - kernel.diagonal().sum() for kernel in within)
    return torch.as_tensor(own / (n * (n - 1)) - 2 * across.mean())
