"""Mixtures in the plane: their modes, and the points drawn from them."""

import numpy as np
import pytest

from d3gan.data.points import Mixture, mixture_of


def test_the_ring_has_eight_modes_on_its_circle() -> None:
    centers = Mixture("ring8", 2.0, 0.1).centers
    angles = np.unwrap(np.arctan2(centers[:, 1], centers[:, 0]))
    assert np.hypot(*centers.T) == pytest.approx(2.0)
    assert np.diff(angles) == pytest.approx(2 * np.pi / 8)


def test_the_grid_has_its_25_modes_two_apart() -> None:
    mixture = mixture_of("grid25")
    assert mixture is not None
    line = (-4.0, -2.0, 0.0, 2.0, 4.0)
    assert {tuple(center) for center in mixture.centers} == {(x, y) for x in line for y in line}


@pytest.mark.parametrize("name", ["ring8", "grid25"])
def test_points_lie_around_their_modes_in_equal_shares(name: str) -> None:
    mixture = mixture_of(name)
    assert mixture is not None
    points = mixture.draw("train")
    assert points.shape == (100_000, 2)
    assert points.dtype == np.float32
    offsets = points[:, None].astype(float) - mixture.centers
    nearest = np.hypot(*np.moveaxis(offsets, 2, 0)).argmin(axis=1)
    shares = np.bincount(nearest, minlength=len(mixture.centers)) / len(points)
    assert shares == pytest.approx(1 / len(mixture.centers), abs=0.005)
    own = offsets[np.arange(len(points)), nearest]
    assert own.mean(axis=0) == pytest.approx([0, 0], abs=0.001)
    assert np.cov(own.T) == pytest.approx(mixture.deviation**2 * np.eye(2), abs=0.01 * mixture.deviation**2)


def test_the_points_are_the_same_each_time_and_others_in_each_split() -> None:
    mixture = Mixture("ring8", 1.0, 0.01)
    assert (mixture.draw("train") == mixture.draw("train")).all()
    assert not (mixture.draw("train")[:20_000] == mixture.draw("test")).any()
    others = [Mixture("ring8", 1.5, 0.01), Mixture("ring8", 1.0, 0.02), Mixture("grid25", 1.0, 0.01)]
    assert len({each.checksum("train") for each in [mixture, *others]} | {mixture.checksum("test")}) == 5


def test_only_unusual_numbers_are_part_of_the_name() -> None:
    identities = [mixture.identity for numbers in (("", ""), (2.0, "")) if (mixture := mixture_of("ring8", *numbers))]
    assert identities == ["ring8", "ring8-radius-2-deviation-0.01"]
    assert mixture_of("mnist") is None
