"""How much a metric would change with other fake images: standard errors, and 95 % intervals from them.

An interval is the value plus and minus 1.96 standard errors. The percentiles of bootstrap replicates would be biased:
a replicate holds about 63 % as many different images, so its Frechet distance is larger than the whole set's.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from d3gan.evaluation.metrics.fid import Gaussian, Moments, frechet_distance
from d3gan.evaluation.metrics.inception_score import InceptionScore
from d3gan.evaluation.metrics.kid import KernelDistance, polynomial_kernel

_ROWS = 1000  # features processed at once

# Half the width of a normal distribution's central 95 %, in standard deviations.
_NORMAL_95 = 1.959963984540054


def interval(value: float, error: float) -> list[float]:
    """The 95 % interval of a value with this standard error."""
    return [value - _NORMAL_95 * error, value + _NORMAL_95 * error]


def frechet_error(
    features: Tensor,
    reference: Gaussian,
    replicates: int,
    rng: torch.Generator,
    advance: Callable[[int], None] = lambda _: None,
) -> float:
    """Standard error of the Frechet distance, by the bootstrap over fake images; the reference is fixed.

    Args:
        features: (N, D) of the fake images.
        reference: distribution of the features of the real ones.
        replicates: number of replicates, at least 2.
        rng: draws the replicates.
        advance: called with 1 after each replicate; each takes seconds with 50,000 images.

    Raises:
        UnusableFeaturesError: as ``frechet_distance``.
    """
    distances = []
    for _ in range(replicates):
        moments = Moments(features.shape[1])
        for rows in torch.randint(len(features), (len(features),), generator=rng).split(_ROWS):
            moments.update(features[rows])
        distances.append(frechet_distance(reference, moments.gaussian()))
        advance(1)
    return float(torch.tensor(distances, dtype=torch.float64).std())


def score_error(logits: Tensor, order: Tensor, splits: int, replicates: int, rng: torch.Generator) -> float:
    """Standard error of the Inception Score, by the bootstrap over images.

    Args:
        logits: (N, C), of images 0 to N - 1.
        order: (N,) int64: the order in which images are dealt to the splits.
        splits: number of splits.
        replicates: number of replicates, at least 2.
        rng: draws the replicates.
    """
    scores = []
    for _ in range(replicates):
        drawn = torch.randint(len(logits), (len(logits),), generator=rng)
        score = InceptionScore(len(logits), splits, order)
        for i, rows in enumerate(drawn.split(_ROWS)):
            score.update(logits[rows], i * _ROWS)
        scores.append(score.result()[0])
    return float(torch.tensor(scores, dtype=torch.float64).std())


def kernel_error(real: Tensor, fake: Tensor, distance: KernelDistance) -> float:
    """Standard error of KID over fake images, with fixed real ones, and over its subsets.

    KID is a U-statistic of the fake images; its variance is to first order that of the mean of 2 h_i, where h_i is
    the contribution of image i averaged over its partners (Hoeffding 1948). The variance of the subsets' mean is
    added. (A bootstrap would pair an image with itself, which the unbiased estimate must exclude; the subsets'
    deviation alone is zero if a subset holds all images.)

    Args:
        real: (M, D) features.
        fake: (N, D) features, N >= 2.
        distance: KID of these sets.
    """
    contributions = []
    for start in range(0, len(fake), _ROWS):
        rows = fake[start : start + _ROWS].double()
        within = torch.zeros(len(rows), dtype=torch.float64)
        across = torch.zeros_like(within)
        for sums, others in ((within, fake), (across, real)):
            for block in others.split(_ROWS):
                sums += polynomial_kernel(rows, block.double()).sum(dim=1)
        itself = (rows.square().mean(dim=1) + 1) ** 3
        contributions.append((within - itself) / (len(fake) - 1) - across / len(real))
    variance = (2 * torch.cat(contributions)).var() / len(fake) + (distance.deviation or 0.0) ** 2 / distance.subsets
    return math.sqrt(float(variance))


def mean_error(values: Tensor) -> float:
    """Standard error of the mean of values (N,): the limit of a bootstrap over them, in closed form."""
    return float(values.std(correction=0)) / math.sqrt(len(values))
