"""The Frechet distance where its matrix root is hard: ranks, supports and scales that differ, and no covariance."""

import pytest
import torch
from torch import Tensor

from d3gan.evaluation.statistics import Gaussian, UnusableFeaturesError, frechet_distance


def rotation(size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    basis: Tensor = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    return basis


def with_variances(variances: Tensor, basis: Tensor) -> Gaussian:
    covariance = (basis * variances.double()) @ basis.T
    return Gaussian(torch.zeros(len(variances)).double(), (covariance + covariance.T) / 2)


@pytest.mark.parametrize("size", [4, 16, 64])
def test_features_that_vary_in_unrelated_directions_have_a_distance(size: int) -> None:
    # C_a C_b = 0 but for rounding of either sign, so that the distance is the two traces.
    basis, first = rotation(size), torch.arange(size) < size // 2
    a, b = with_variances(first, basis), with_variances(~first, basis)
    assert frechet_distance(a, b) == pytest.approx(size, rel=1e-12)
    assert frechet_distance(b, a) == pytest.approx(size, rel=1e-12)


def test_commuting_covariances_have_the_closed_form() -> None:
    basis = rotation(8)
    one, other = torch.linspace(0.1, 3, 8).double(), torch.linspace(5, 0, 8).double()
    expected = float((one.sqrt() - other.sqrt()).square().sum())
    found = frechet_distance(with_variances(one, basis), with_variances(other, basis))
    assert found == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("decades", [0, 7, 14])
def test_a_distribution_is_at_no_distance_from_itself_whatever_its_spectrum(decades: int) -> None:
    # Small variances are many in the features of a trained network.
    variances = torch.logspace(0, -decades, 100, dtype=torch.float64)
    for seed in range(8):  # rounding leaves either sign
        a, b = (with_variances(variances, rotation(100, seed)) for _ in range(2))
        assert 0 <= frechet_distance(a, b) <= 1e-10 * float(variances.sum())


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_distance_scales_with_the_features_square(scale: float) -> None:
    one, other = torch.rand(2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b = (with_variances(v, rotation(6, seed)) for seed, v in enumerate((one, other)))
    far = [Gaussian(x.mean, x.covariance * scale) for x in (a, b)]
    assert frechet_distance(*far) == pytest.approx(scale * frechet_distance(a, b), rel=1e-9)


@pytest.mark.parametrize("other", [0.0, 1.0])
def test_what_is_no_covariance_is_refused_on_either_side(other: float) -> None:
    good = with_variances(torch.tensor([other, other, 0.0]), torch.eye(3).double())
    negative = with_variances(torch.tensor([1.0, 1.0, -0.5]), torch.eye(3).double())
    lopsided = Gaussian(good.mean, torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).double())
    for bad, words in ((negative, "negative eigenvalue"), (lopsided, "not symmetric")):
        for pair in ((good, bad), (bad, good)):
            with pytest.raises(UnusableFeaturesError, match=words):
                frechet_distance(*pair)
