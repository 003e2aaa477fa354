"""The Frechet distance where its matrix root is hard: ranks, supports and scales that differ, and no covariance."""

import pytest
import torch
from torch import Tensor

from d3gan.evaluation.metrics.features import UnusableFeaturesError
from d3gan.evaluation.metrics.fid import Gaussian, Moments, frechet_distance


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
    distance = frechet_distance(with_variances(one, basis), with_variances(other, basis))
    assert distance == pytest.approx(expected, rel=1e-10)


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


@pytest.fixture(params=[False, True], ids=["", "solvers fail"])
def solvers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's solvers as they are, and failing as they do on the features of some young generators."""

    def fail(_matrix: Tensor) -> Tensor:
        raise torch.linalg.LinAlgError("failed to converge")  # type: ignore[attr-defined]

    if request.param:
        monkeypatch.setattr(torch.linalg, "eigh", fail)
        monkeypatch.setattr(torch.linalg, "svdvals", fail)


@pytest.mark.usefixtures("solvers")
@pytest.mark.parametrize("exponent", [-12, -6, -3, 0, 3, 6])
@pytest.mark.parametrize("rank", [0, 1])
def test_features_that_are_nearly_alike_have_the_closed_form(rank: int, exponent: int) -> None:
    """Images of a generator that makes one image, or one that only gets brighter."""
    size, scale, rng = 40, 10.0**exponent, torch.Generator().manual_seed(0)
    real = torch.randn(200, size, generator=rng, dtype=torch.float64) * torch.linspace(0.1, 2, size) + 1
    direction = rotation(size)[0]
    brightness = torch.randn(100, 1, generator=rng, dtype=torch.float64) * scale
    fake = direction * brightness * rank + torch.zeros(100, size).double()  # around 0: an offset would cost digits
    a, b = Moments(size), Moments(size)
    a.update(real)
    b.update(fake)
    # |m - n|^2 + tr C + s^2 - 2 s (v' C v)^(1/2), for a covariance s^2 v v'
    deviation = float(brightness.std()) * rank
    expected = float((real.mean(dim=0) - fake.mean(dim=0)).square().sum() + real.T.cov().trace()) + deviation**2
    expected -= 2 * deviation * float((direction @ real.T.cov() @ direction).sqrt())
    for pair in ((a, b), (b, a)):
        assert frechet_distance(*(side.gaussian() for side in pair)) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(b.gaussian(), b.gaussian()) <= 1e-10 * deviation**2


@pytest.mark.usefixtures("solvers")
@pytest.mark.parametrize("scale", [1e-24, 1.0, 1e12])
def test_covariances_of_any_size_have_a_distance(scale: float) -> None:
    basis = rotation(8)
    one, other = torch.linspace(0.1, 3, 8).double() * scale, torch.linspace(5, 0, 8).double() * scale
    expected = float((one.sqrt() - other.sqrt()).square().sum())
    distance = frechet_distance(with_variances(one, basis), with_variances(other, basis))
    assert distance == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("other", [0.0, 1.0])
def test_what_is_no_covariance_is_refused_on_either_side(other: float) -> None:
    good = with_variances(torch.tensor([other, other, 0.0]), torch.eye(3).double())
    negative = with_variances(torch.tensor([1.0, 1.0, -0.5]), torch.eye(3).double())
    lopsided = Gaussian(good.mean, torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).double())
    for bad, words in ((negative, "negative eigenvalue"), (lopsided, "not symmetric")):
        for pair in ((good, bad), (bad, good)):
            with pytest.raises(UnusableFeaturesError, match=words):
                frechet_distance(*pair)
