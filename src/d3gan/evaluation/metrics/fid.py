"""The Frechet distance (FID) of two sets of features, and the streamed mean and covariance that it needs.

Everything is summed in float64. A distance that has no value raises an error; no function here returns NaN.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import scipy.linalg
import torch
from torch import Tensor

from d3gan.evaluation.metrics.features import UnusableFeaturesError, require_finite, to_float64


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution of features, and the factor of its covariance, computed at first use."""

    mean: Tensor
    """(D,) float64."""
    covariance: Tensor
    """(D, D) float64, symmetric, positive semi-definite."""

    @cached_property
    def factor(self) -> Tensor:
        """(D, r) float64: F with F F' = covariance, r its rank.

        A covariance of fewer images than features has exact zeros among its eigenvalues, which come out as +-1e-16 of
        the largest. Their square roots would be 1e-8, and there may be thousands of them; so they are set to 0, by
        the usual rule for the rank of a matrix.

        Raises:
            UnusableFeaturesError: the covariance is not finite, not symmetric, or has a clearly negative eigenvalue.
        """
        require_finite(self.covariance, "covariance")
        size = float(self.covariance.abs().max())
        if float((self.covariance - self.covariance.T).abs().max()) > 1e-6 * size:
            raise UnusableFeaturesError("a covariance is not symmetric")
        unit = _unit(self.covariance)
        values, vectors = _eigh(self.covariance / unit)
        largest = float(values.abs().max()) if len(values) else 0.0
        if len(values) and float(values.min()) < -1e-6 * largest:
            raise UnusableFeaturesError(f"a covariance has a negative eigenvalue ({float(values.min()):.3g})")
        nonzero = values > len(values) * torch.finfo(values.dtype).eps * largest
        factor: Tensor = vectors[:, nonzero] * (values[nonzero].sqrt() * math.sqrt(unit))
        return factor


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), the squared 2-Wasserstein distance of two Gaussians.

    Dowson & Landau 1982; as FID: Heusel et al. 2017 (arXiv:1706.08500), equation 6. With C_a = F F' and C_b = G G',
    the trace of the root is the sum of the singular values of F' G. (Their squares, the eigenvalues of F' C_b F, lose
    half of the digits: 2,048 features would be 1e-6 of the trace apart from themselves.)

    Args:
        a: one Gaussian; its covariance is factored once for all calls.
        b: the other, of the same D; factored once, too.

    Returns:
        At least 0; below 1e-10 of the covariance's trace for identical distributions.

    Raises:
        UnusableFeaturesError: a number is not finite, a matrix is no covariance, or the two have different D.
    """
    if a.mean.shape != b.mean.shape or a.covariance.shape != b.covariance.shape:
        raise UnusableFeaturesError(f"{len(a.mean)} features on one side, {len(b.mean)} on the other")
    for tensor in (a.mean, b.mean):
        require_finite(tensor, "means")
    root_trace = _singular_values(a.factor.T @ b.factor).sum()
    traces = a.covariance.trace() + b.covariance.trace()
    distance = float((a.mean - b.mean).square().sum() + traces - 2 * root_trace)
    return max(distance, 0.0)  # rounding may leave either sign


# PyTorch's solvers (MKL, divide and conquer) fail on some small matrices of low rank, such as the covariance of the
# features of a young or collapsed generator's images, but not on the same matrix scaled to a size of about 1. If they
# still fail, LAPACK's QR iteration replaces them: it is several times slower, and converges.


def _unit(matrix: Tensor) -> float:
    """A power of 4 near a matrix's largest number, 1 for zeros; dividing by it or by its root rounds nothing."""
    exponent = math.frexp(float(matrix.abs().max()))[1] if matrix.numel() else 0
    return math.ldexp(1.0, 2 * max(-500, min(500, exponent // 2)))


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (D,), ascending, and eigenvectors (D, D) of a symmetric matrix (D, D)."""
    try:
        values, vectors = torch.linalg.eigh(matrix)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # documented, but not in its stub
        values, vectors = map(torch.from_numpy, scipy.linalg.eigh(matrix.numpy(), driver="ev"))
    return values, vectors


def _singular_values(matrix: Tensor) -> Tensor:
    """(min(r, s),) of a matrix (r, s)."""
    unit = _unit(matrix)
    try:
        values: Tensor = torch.linalg.svdvals(matrix / unit)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        values = torch.from_numpy(scipy.linalg.svd(matrix.numpy() / unit, compute_uv=False, lapack_driver="gesvd"))
    return values * unit


class Moments:
    """Count, mean and covariance of features that arrive in blocks; memory does not grow with their number.

    Sums are taken of differences from the first block's mean, so that a large common offset costs no digits.

    Args:
        feature_size: D.
    """

    def __init__(self, feature_size: int):
        self.feature_size = feature_size
        self.count = 0
        self._origin: Tensor | None = None  # (D,)
        self._sum = torch.zeros(())  # (D,) of the differences
        self._products = torch.zeros(())  # (D, D) of the differences

    def update(self, features: Tensor) -> None:
        """Adds features (n, D), n >= 0.

        Raises:
            UnusableFeaturesError: a number is not finite.
            ValueError: another size than D.
        """
        if features.ndim != 2 or features.shape[1] != self.feature_size:
            raise ValueError(f"features of shape {tuple(features.shape)}: must be (n, {self.feature_size})")
        if not len(features):
            return
        require_finite(features)
        rows = to_float64(features)
        if self._origin is None:
            self._origin = rows.mean(dim=0)
            self._sum = torch.zeros_like(self._origin)
            self._products = self._origin.new_zeros(self.feature_size, self.feature_size)
        rows = rows - self._origin
        self._sum += rows.sum(dim=0)
        self._products.addmm_(rows.T, rows)
        self.count += len(rows)

    def merge(self, other: "Moments") -> None:
        """Adds all features of another one.

        Raises:
            ValueError: the other has another D.
        """
        if other.feature_size != self.feature_size:
            raise ValueError(f"moments of {other.feature_size} features: must be {self.feature_size}")
        if other._origin is None:
            return
        if self._origin is None:
            self._origin = other._origin.clone()
            self._sum, self._products = torch.zeros_like(other._sum), torch.zeros_like(other._products)
        # sum (x - a)(x - a)' = sum (x - b)(x - b)' + s d' + d s' + n d d', for d = b - a and s = sum (x - b)
        shift = other._origin - self._origin
        cross = torch.outer(other._sum, shift)
        self._products += other._products + cross + cross.T + other.count * torch.outer(shift, shift)
        self._sum += other._sum + other.count * shift
        self.count += other.count

    def mean(self) -> Tensor:
        """(D,) float64.

        Raises:
            UnusableFeaturesError: there are no features.
        """
        if self._origin is None:
            raise UnusableFeaturesError("no image: a mean needs at least 1")
        return self._origin + self._sum / self.count

    def covariance(self) -> Tensor:
        """(D, D) float64, with the denominator N - 1.

        Raises:
            UnusableFeaturesError: there are features of fewer than two images.
        """
        if self.count < 2:
            raise UnusableFeaturesError(f"{self.count} images: a covariance needs at least 2")
        mean = self._sum / self.count
        products = (self._products - self.count * torch.outer(mean, mean)) / (self.count - 1)
        return (products + products.T) / 2

    def gaussian(self) -> Gaussian:
        """The normal distribution of this mean and covariance, on the CPU.

        Raises:
            UnusableFeaturesError: there are features of fewer than two images.
        """
        return Gaussian(self.mean().cpu(), self.covariance().cpu())
