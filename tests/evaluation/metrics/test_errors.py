"""Standard errors against what repeating the whole experiment shows."""

import numpy as np
import pytest
import torch
from torch import Tensor

from d3gan.evaluation.feature_statistics import evaluation_order
from d3gan.evaluation.metrics.errors import frechet_error, interval, kernel_error, mean_error, score_error
from d3gan.evaluation.metrics.fid import Gaussian, Moments, frechet_distance
from d3gan.evaluation.metrics.inception_score import InceptionScore
from d3gan.evaluation.metrics.kid import KernelDistance, kernel_distance

COUNT = 400


def draw(rng: torch.Generator) -> Tensor:
    return torch.randn(COUNT, 4, generator=rng, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.5, 1.0]) + 0.5


def gaussian_of(rows: Tensor) -> Gaussian:
    moments = Moments(4)
    moments.update(rows)
    return moments.gaussian()


def test_an_interval_is_1_96_errors_wide_on_either_side() -> None:
    assert interval(10.0, 0.5) == pytest.approx([9.02, 10.98], abs=1e-3)


def kid_of(real: Tensor, fake: Tensor, subset_size: int) -> KernelDistance:
    return kernel_distance(real, fake, torch.Generator().manual_seed(1), subset_size=subset_size)


@pytest.mark.parametrize(("metric", "subset_size"), [("fid", 0), ("is", 0), ("kid", 40), ("kid", COUNT)])
def test_errors_are_those_of_repeated_draws(metric: str, subset_size: int) -> None:
    rng = torch.Generator().manual_seed(0)
    reference_rows = torch.randn(COUNT, 4, generator=rng, dtype=torch.float64)
    reference = gaussian_of(reference_rows)

    def value(rows: Tensor) -> float:
        if metric == "fid":
            return frechet_distance(reference, gaussian_of(rows))
        if metric == "kid":
            return kid_of(reference_rows, rows, subset_size).mean
        score = InceptionScore(COUNT, 10, evaluation_order(COUNT))
        score.update(2 * rows, 0)
        return score.result()[0]

    def error(rows: Tensor) -> float:
        if metric == "fid":
            return frechet_error(rows, reference, 60, rng)
        if metric == "kid":
            return kernel_error(reference_rows, rows, kid_of(reference_rows, rows, subset_size))
        return score_error(2 * rows, evaluation_order(COUNT), 10, 60, rng)

    spread = float(np.std([value(draw(rng)) for _ in range(150)]))
    errors = [error(draw(rng)) for _ in range(9)]
    assert 0.67 * spread < float(np.median(errors)) < 1.5 * spread


def test_the_error_of_a_mean_is_the_bootstraps() -> None:
    rng = torch.Generator().manual_seed(0)
    values = (torch.rand(500, generator=rng) < 0.3).double()
    means = [float(values[torch.randint(500, (500,), generator=rng)].mean()) for _ in range(400)]
    assert mean_error(values) == pytest.approx(float(np.std(means)), rel=0.15)
