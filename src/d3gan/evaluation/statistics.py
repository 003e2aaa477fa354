"""The statistics behind FID, Inception Score and KID: functions of features and logits, and of nothing else.

Everything is summed in float64. Where a figure has no value an error is raised; none of these functions returns NaN.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import scipy.linalg
import torch
from torch import Tensor

from d3gan.errors import WorldError


class UnusableFeaturesError(WorldError):
    """No statistics can be made of these features; the message says why."""


def _float64(tensor: Tensor) -> Tensor:
    """The tensor in float64, on the CPU where its device has no float64 (MPS)."""
    return tensor.to("cpu" if tensor.device.type == "mps" else tensor.device, torch.float64)


def require_finite(features: Tensor, what: str = "features") -> None:
    """Checks that every number is finite.

    Raises:
        UnusableFeaturesError: one is not.
    """
    bad = int((~features.isfinite()).sum())
    if bad:
        raise UnusableFeaturesError(f"{bad:,} of {features.numel():,} numbers of the {what} are NaN or infinite")


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution of features, and the factor of its covariance, computed when it is first wanted."""

    mean: Tensor
    """(D,) float64."""
    covariance: Tensor
    """(D, D) float64, symmetric, positive semi-definite."""

    @cached_property
    def factor(self) -> Tensor:
        """(D, r) float64: F with F F' = covariance, r its rank.

        Raises:
            UnusableFeaturesError: it is not finite, not symmetric, or has a clearly negative eigenvalue.
        """
        require_finite(self.covariance, "covariance")
        size = float(self.covariance.abs().max())
        if float((self.covariance - self.covariance.T).abs().max()) > 1e-6 * size:
            raise UnusableFeaturesError("a covariance is not symmetric")
        unit = _unit(self.covariance)
        values, vectors = _eigh(self.covariance / unit)
        nonzero = _nonzero(values)
        factor: Tensor = vectors[:, nonzero] * (values[nonzero].sqrt() * math.sqrt(unit))
        return factor


# PyTorch's solvers (MKL, divide and conquer) fail on some small matrices of low rank, such as the covariance of the
# features of a young or collapsed generator's images. They do not fail on that matrix scaled to a size of about 1.
# If they ever do, LAPACK's QR iteration replaces them: it is several times slower, and converges.


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


def _nonzero(values: Tensor) -> Tensor:
    """(D,) bool: which eigenvalues are above rounding; the others are 0 but for it.

    A covariance of fewer images than features has exact zeros among its eigenvalues, which come out as +-1e-16 of the
    largest. Their square roots would be 1e-8, and there may be thousands of them; so they are set to 0, by the usual
    rule for the rank of a matrix.
    """
    largest = float(values.abs().max()) if len(values) else 0.0
    if len(values) and float(values.min()) < -1e-6 * largest:
        raise UnusableFeaturesError(f"a covariance has a negative eigenvalue ({float(values.min()):.3g})")
    return values > len(values) * torch.finfo(values.dtype).eps * largest


class Moments:
    """Count, mean and covariance of features that come in blocks; memory does not grow with their number.

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
        """Takes in features (n, D), n >= 0.

        Raises:
            UnusableFeaturesError: a number is not finite.
            ValueError: another size than D.
        """
        if features.ndim != 2 or features.shape[1] != self.feature_size:
            raise ValueError(f"features of shape {tuple(features.shape)}: must be (n, {self.feature_size})")
        if not len(features):
            return
        require_finite(features)
        rows = _float64(features)
        if self._origin is None:
            self._origin = rows.mean(dim=0)
            self._sum = torch.zeros_like(self._origin)
            self._products = self._origin.new_zeros(self.feature_size, self.feature_size)
        rows = rows - self._origin
        self._sum += rows.sum(dim=0)
        self._products.addmm_(rows.T, rows)
        self.count += len(rows)

    def merge(self, other: "Moments") -> None:
        """Takes in what another one has taken in.

        Raises:
            ValueError: it has another D.
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
            UnusableFeaturesError: nothing was taken in.
        """
        if self._origin is None:
            raise UnusableFeaturesError("no image, so no mean of its features")
        return self._origin + self._sum / self.count

    def covariance(self) -> Tensor:
        """(D, D) float64, with the denominator N - 1.

        Raises:
            UnusableFeaturesError: fewer than two images were taken in.
        """
        if self.count < 2:
            raise UnusableFeaturesError(f"{self.count} images: a covariance needs at least 2")
        mean = self._sum / self.count
        products = (self._products - self.count * torch.outer(mean, mean)) / (self.count - 1)
        return (products + products.T) / 2

    def gaussian(self) -> Gaussian:
        """The normal distribution of this mean and covariance, on the CPU.

        Raises:
            UnusableFeaturesError: fewer than two images were taken in.
        """
        return Gaussian(self.mean().cpu(), self.covariance().cpu())


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), the squared 2-Wasserstein distance of two Gaussians.

    Dowson & Landau 1982; as FID: Heusel et al. 2017 (arXiv:1706.08500), equation 6. With C_a = F F' and C_b = G G',
    the trace of the root is the sum of the singular values of F' G. (Their squares, the eigenvalues of F' C_b F, lose
    half of the digits: 2,048 features would be 1e-6 of the trace apart from themselves.)

    Args:
        a: its covariance is factored, once for all calls.
        b: of the same D; likewise.

    Returns:
        At least 0; of identical distributions below 1e-10 of the covariance's trace.

    Raises:
        UnusableFeaturesError: a number is not finite, a covariance is none, or the two have different D.
    """
    if a.mean.shape != b.mean.shape or a.covariance.shape != b.covariance.shape:
        raise UnusableFeaturesError(f"{len(a.mean)} features on one side, {len(b.mean)} on the other")
    for tensor in (a.mean, b.mean):
        require_finite(tensor, "means")
    root_trace = _singular_values(a.factor.T @ b.factor).sum()
    traces = a.covariance.trace() + b.covariance.trace()
    distance = float((a.mean - b.mean).square().sum() + traces - 2 * root_trace)
    return max(distance, 0.0)  # rounding may leave either sign


class InceptionScore:
    """Inception Score of logits that come in blocks; memory does not grow with their number.

    Salimans et al. 2016 (arXiv:1606.03498): exp(mean of KL(p(y|x) || p(y))), for each of some splits.

    Args:
        count: images in all.
        splits: parts that the images are dealt to, as evenly as can be.
        order: (count,) int64: the images in the order in which they are dealt, in consecutive runs; None: 0, 1, 2, …

    Raises:
        UnusableFeaturesError: fewer images than splits.
    """

    def __init__(self, count: int, splits: int = 10, order: Tensor | None = None):
        if count < splits:
            raise UnusableFeaturesError(f"{count} images: the Inception Score of {splits} splits needs {splits}")
        self._splits = splits
        place = torch.arange(count) * splits // count
        self._split = place if order is None else torch.empty_like(place).scatter_(0, order, place)
        self._probabilities = torch.zeros(())  # (splits, C): sum of p
        self._entropies = torch.zeros(())  # (splits,): sum of p log p over images and classes
        self._images = torch.bincount(place, minlength=splits).double()
        self._taken = 0

    def update(self, logits: Tensor, start: int) -> None:
        """Takes in the logits (n, C) of images ``start`` to ``start`` + n - 1.

        Raises:
            UnusableFeaturesError: a number is not finite.
        """
        require_finite(logits, "logits")
        logs = _float64(logits).log_softmax(dim=1)
        if not self._taken:
            self._probabilities = logs.new_zeros(self._splits, logs.shape[1])
            self._entropies = logs.new_zeros(self._splits)
        split = self._split[start : start + len(logs)].to(logs.device)
        chances = logs.exp()
        self._probabilities.index_add_(0, split, chances)
        self._entropies.index_add_(0, split, (chances * logs).sum(dim=1))
        self._taken += len(logs)

    def result(self) -> tuple[float, float]:
        """The mean over the splits and their standard deviation (with the number of splits as its denominator).

        Raises:
            ValueError: not all images were taken in.
        """
        if self._taken != len(self._split):
            raise ValueError(f"{self._taken} of {len(self._split)} images were taken in")
        images = self._images.to(self._probabilities.device)
        # mean KL(p || m) = mean sum p log p - sum m log m, for m the mean of p
        means = self._probabilities / images[:, None]
        divergences = self._entropies / images - torch.special.xlogy(means, means).sum(dim=1)
        scores = divergences.exp()
        return float(scores.mean()), float(scores.std(correction=0))


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
