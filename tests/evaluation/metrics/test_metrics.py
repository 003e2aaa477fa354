"""FID, IS and KID: closed forms, an oracle, streams, and what has no value."""

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from torch import Tensor, nn

from d3gan.evaluation.metrics.features import UnusableFeaturesError
from d3gan.evaluation.metrics.fid import Gaussian, Moments, frechet_distance
from d3gan.evaluation.metrics.inception_score import InceptionScore
from d3gan.evaluation.metrics.kid import kernel_distance
from d3gan.randomness import stream


def features(count: int, size: int, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return scale * torch.randn(count, size, generator=generator, dtype=torch.float64) @ mixing + shift


def gaussian_of(rows: Tensor) -> Gaussian:
    moments = Moments(rows.shape[1])
    moments.update(rows)
    return moments.gaussian()


# Moments.


@given(cuts=st.lists(st.integers(0, 60), max_size=5), shift=st.sampled_from([0.0, 1e6]))
@settings(max_examples=25, deadline=None)
def test_streamed_moments_are_those_of_numpy_wherever_the_blocks_end(cuts: list[int], shift: float) -> None:
    rows = features(60, 5, shift=shift)
    moments = Moments(5)
    edges = [0, *sorted(cuts), 60]
    for start, stop in itertools.pairwise(edges):
        moments.update(rows[start:stop])
    assert moments.count == 60
    # At an offset of 1e6 a float64 has ten digits left.
    np.testing.assert_allclose(moments.mean().numpy(), rows.numpy().mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(moments.covariance().numpy(), np.cov(rows.numpy().T), rtol=1e-7, atol=1e-7)


def test_merged_moments_are_those_of_all() -> None:
    rows = features(50, 4, shift=100.0)
    parts = [Moments(4) for _ in range(4)]
    for part, block in zip(parts, (rows[:7], rows[7:7], rows[7:30], rows[30:]), strict=True):
        for piece in block.split(5):  # the first of which decides what differences are taken from
            part.update(piece)
    whole = Moments(4)
    for part in parts:
        whole.merge(part)
    assert whole.count == 50
    np.testing.assert_allclose(whole.mean().numpy(), rows.mean(dim=0).numpy(), rtol=1e-12)
    np.testing.assert_allclose(whole.covariance().numpy(), np.cov(rows.numpy().T), rtol=1e-10, atol=1e-10)


def test_equal_blocks_in_equal_order_give_equal_bits() -> None:
    rows = features(40, 6).float()
    twice = [Moments(6), Moments(6)]
    for moments in twice:
        for block in rows.split(7):
            moments.update(block)
    assert torch.equal(twice[0].covariance(), twice[1].covariance())


def test_moments_of_nothing_and_of_one_image_are_refused() -> None:
    moments = Moments(3)
    with pytest.raises(UnusableFeaturesError, match="no image"):
        moments.mean()
    moments.update(torch.ones(1, 3))
    with pytest.raises(UnusableFeaturesError, match="at least 2"):
        moments.covariance()
    with pytest.raises(ValueError, match="must be"):
        moments.update(torch.ones(2, 4))
    with pytest.raises(ValueError, match="must be"):
        moments.merge(Moments(2))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused(bad: float) -> None:
    rows = torch.ones(4, 3)
    rows[2, 1] = bad
    for attempt in (
        lambda: Moments(3).update(rows),
        lambda: InceptionScore(4, 2).update(rows, 0),
        lambda: kernel_distance(rows, torch.ones(4, 3), stream(0, "test")),
        lambda: frechet_distance(Gaussian(rows[2], torch.eye(3)), Gaussian(torch.ones(3), torch.eye(3))),
    ):
        with pytest.raises(UnusableFeaturesError, match=r"1 of .* NaN or infinite"):
            attempt()


# Frechet distance.


def test_frechet_distance_of_diagonal_gaussians() -> None:
    a = Gaussian(torch.tensor([1.0, 2.0]).double(), torch.diag(torch.tensor([4.0, 9.0])).double())
    b = Gaussian(torch.tensor([0.0, 4.0]).double(), torch.diag(torch.tensor([1.0, 25.0])).double())
    # |m|^2 = 1 + 4; (2 - 1)^2 + (3 - 5)^2 = 5
    assert frechet_distance(a, b) == pytest.approx(10.0, abs=1e-12)
    assert frechet_distance(b, a) == pytest.approx(10.0, abs=1e-12)


def test_frechet_distance_of_any_gaussians_is_that_of_the_matrix_root() -> None:
    a, b = gaussian_of(features(300, 12, 1)), gaussian_of(features(300, 12, 2, scale=2.0, shift=0.5))
    root = linalg.sqrtm(a.covariance.numpy() @ b.covariance.numpy()).real
    expected = float(
        (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * root.trace()
    )
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [3, 20, 200])
def test_identical_sets_have_distance_zero_also_without_full_rank(count: int) -> None:
    for seed in range(10):
        rows = features(count, 64, seed)
        a, b = gaussian_of(rows), gaussian_of(rows.clone())
        assert 0.0 <= frechet_distance(a, b) <= 1e-10 * float(a.covariance.trace())


def test_rounding_noise_of_null_directions_does_not_add_up() -> None:
    # 10 of 500 directions carry anything; the exact distance is that of those ten.
    small = [features(40, 10, seed) for seed in (4, 5)]
    basis = torch.linalg.qr(features(500, 500, 6)).Q[:10]
    expected = frechet_distance(*(gaussian_of(rows) for rows in small))
    distance = frechet_distance(*(gaussian_of(rows @ basis) for rows in small))
    assert distance == pytest.approx(expected, rel=1e-11)


def test_constant_features_have_a_distance() -> None:
    a, b = gaussian_of(torch.zeros(5, 3)), gaussian_of(torch.full((5, 3), 2.0))
    assert frechet_distance(a, b) == pytest.approx(12.0)
    assert frechet_distance(a, gaussian_of(features(9, 3))) > 0


def test_covariances_that_are_none_are_refused() -> None:
    good = Gaussian(torch.zeros(2).double(), torch.eye(2).double())
    lopsided = torch.tensor([[1.0, 0.5], [0.0, 1.0]]).double()
    for bad, words in [
        (Gaussian(torch.zeros(2).double(), torch.diag(torch.tensor([1.0, -0.5])).double()), "negative eigenvalue"),
        (Gaussian(torch.zeros(2).double(), lopsided), "not symmetric"),
        (Gaussian(torch.zeros(3).double(), torch.eye(3).double()), "2 features|3 features"),
        (Gaussian(torch.zeros(2).double(), torch.full((2, 2), math.nan).double()), "NaN"),
    ]:
        with pytest.raises(UnusableFeaturesError, match=words):
            frechet_distance(bad, good)
        if "symmetric" not in words:
            with pytest.raises(UnusableFeaturesError, match=words):
                frechet_distance(good, bad)


# Inception Score.


def score_of(logits: Tensor, splits: int = 10, order: Tensor | None = None, block: int = 7) -> tuple[float, float]:
    score = InceptionScore(len(logits), splits, order)
    for start in range(0, len(logits), block):
        score.update(logits[start : start + block], start)
    return score.result()


def test_score_of_no_and_of_perfect_knowledge() -> None:
    assert score_of(torch.zeros(40, 8)) == pytest.approx((1.0, 0.0), abs=1e-12)
    sure = torch.eye(8).repeat(10, 1) * 1000
    assert score_of(sure) == pytest.approx((8.0, 0.0), abs=1e-9)


def test_score_is_the_formula_split_by_split() -> None:
    logits = torch.randn(53, 6, generator=torch.Generator().manual_seed(0)).double() * 2
    scores = []
    for part in range(10):
        p = logits[[i for i in range(53) if i * 10 // 53 == part]].softmax(dim=1).numpy()
        scores.append(np.exp(np.mean(np.sum(p * (np.log(p) - np.log(p.mean(axis=0))), axis=1))))
    mean, deviation = score_of(logits)
    assert mean == pytest.approx(np.mean(scores), rel=1e-12)
    assert deviation == pytest.approx(np.std(scores), rel=1e-9)


def test_a_set_sorted_by_class_needs_an_order() -> None:
    sure = torch.eye(10).repeat_interleave(50, dim=0) * 1000
    assert score_of(sure)[0] == pytest.approx(1.0)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    assert score_of(sure, order=order)[0] > 8.5


def test_an_order_deals_the_images_it_names() -> None:
    logits = torch.randn(30, 5, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    assert score_of(logits, order=order) == pytest.approx(score_of(logits[order]), rel=1e-12)


def test_a_score_needs_all_images_and_as_many_as_splits() -> None:
    with pytest.raises(UnusableFeaturesError, match="9 images"):
        InceptionScore(9, 10)
    score = InceptionScore(12, 10)
    score.update(torch.zeros(5, 3), 0)
    with pytest.raises(ValueError, match="5 of 12"):
        score.result()


# KID.


def test_kid_of_whole_sets_is_the_formula() -> None:
    a, b = features(30, 4, 1).numpy(), features(30, 4, 2, shift=0.3).numpy()

    def kernel(x: Any, y: Any) -> float:
        return float((x @ y / 4 + 1) ** 3)

    n = 30
    within = [sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1)) for x in (a, b)]
    across = sum(kernel(x, y) for x in a for y in b) / n**2
    distance = kernel_distance(torch.tensor(a), torch.tensor(b), stream(0, "test"), subsets=3)
    assert distance.mean == pytest.approx(sum(within) - 2 * across, rel=1e-9)
    assert (distance.deviation, distance.subsets) == (None, 1)
    assert distance.subset_size == 30


def test_kid_is_unbiased() -> None:
    rng = torch.Generator().manual_seed(0)
    values = []
    for _ in range(300):
        a, b = torch.randn(2, 40, 3, generator=rng, dtype=torch.float64)
        values.append(kernel_distance(a, b, rng, subsets=1).mean)
    mean, error = np.mean(values), np.std(values) / math.sqrt(len(values))
    assert abs(mean) < 4 * error
    assert min(values) < 0


def test_kid_subsets_are_of_different_images() -> None:
    a, b = features(200, 3, 1), features(150, 3, 2)
    distance = kernel_distance(a, b, stream(0, "test"), subsets=20, subset_size=50)
    assert distance.subset_size == 50
    assert distance.deviation is not None
    assert distance.deviation > 0
    again = kernel_distance(a, b, stream(0, "test"), subsets=20, subset_size=50)
    assert distance == again
    with pytest.raises(UnusableFeaturesError, match="KID needs"):
        kernel_distance(a[:1], b, stream(0, "test"))


# torchmetrics as an oracle: features go through it as if they were images.


class Identity(nn.Module):
    num_features = 16

    def forward(self, images: Tensor) -> Tensor:
        return images.float().flatten(1)


@pytest.fixture
def oracle_inputs() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(3)
    return tuple(  # type: ignore[return-value]
        torch.randint(low, 200, (300, 1, 4, 4), generator=rng).to(torch.uint8) for low in (0, 30)
    )


def test_fid_is_that_of_torchmetrics(oracle_inputs: tuple[Tensor, Tensor]) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    real, fake = oracle_inputs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = FrechetInceptionDistance(feature=Identity(), input_img_size=(1, 4, 4)).set_dtype(torch.float64)
        oracle.update(real, real=True)
        oracle.update(fake, real=False)
        expected = float(oracle.compute())
    distance = frechet_distance(gaussian_of(real.float().flatten(1)), gaussian_of(fake.float().flatten(1)))
    assert distance == pytest.approx(expected, rel=1e-6)


def test_kid_is_that_of_torchmetrics(oracle_inputs: tuple[Tensor, Tensor]) -> None:
    from torchmetrics.image.kid import poly_mmd

    real, fake = (images.double().flatten(1) / 100 for images in oracle_inputs)
    distance = kernel_distance(real, fake, stream(0, "test"), subsets=1)
    assert distance.mean == pytest.approx(float(poly_mmd(real, fake)), rel=1e-9)


def test_is_is_that_of_torchmetrics(oracle_inputs: tuple[Tensor, Tensor]) -> None:
    from torchmetrics.image.inception import InceptionScore as Oracle

    logits = oracle_inputs[0].float() / 40
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = Oracle(feature=Identity(), splits=1)
        oracle.update(logits)
        expected = float(oracle.compute()[0])
    assert score_of(logits.flatten(1), splits=1)[0] == pytest.approx(expected, rel=1e-5)
