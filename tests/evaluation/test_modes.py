"""Metrics of modes, of samples whose answer is known."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from d3gan.data.points import Mixture
from d3gan.distributed.group import Group
from d3gan.errors import ExternalError
from d3gan.evaluation import modes
from d3gan.evaluation.modes import MixtureJudge, StackedJudge, count_modes, mode_metrics

RING = Mixture("ring8", 1.0, 0.01)


def measured(points: Tensor, mixture: Mixture = RING, replicates: int = 0) -> dict[str, Any]:
    judge = MixtureJudge(mixture)
    counts = count_modes(lambda start, stop: points[start:stop], len(points), judge, Group())
    return {name.replace("_ring8", ""): value for name, value in mode_metrics(counts, judge, replicates).items()}


def at_modes(*modes: int, each: int = 300) -> Tensor:
    return torch.from_numpy(RING.centers[np.repeat(modes, each)]).float()


def test_perfect_samples_find_all_modes() -> None:
    found = measured(torch.from_numpy(RING.draw("test")))
    assert found["modes"] == 8.0
    # Of a Gaussian in the plane, 1 - exp(-9/2) lies within three standard deviations.
    assert found["quality"] == pytest.approx(1 - math.exp(-4.5), abs=0.003)
    assert 0 <= found["kl"] < 0.001


def test_one_mode_alone() -> None:
    assert measured(at_modes(3)) == pytest.approx({"modes": 1.0, "quality": 1.0, "kl": math.log(8)})


def test_uneven_modes_by_hand() -> None:
    samples = torch.cat([at_modes(0, each=600), at_modes(5, each=200)])
    divergence = 0.75 * math.log(0.75 * 8) + 0.25 * math.log(0.25 * 8)
    assert measured(samples) == pytest.approx({"modes": 2.0, "quality": 1.0, "kl": divergence})


def test_far_samples_find_no_mode_but_count_in_the_divergence() -> None:
    found = measured(2 * at_modes(*range(8)))
    assert found == {"modes": 0.0, "quality": 0.0, "kl": 0.0}


def test_a_sample_is_of_high_quality_up_to_three_deviations() -> None:
    for distance, quality in ((0.0299, 1.0), (0.0301, 0.0)):
        for angle in (0.3, 2.0, 4.4):  # Euclidean: in every direction
            offset = torch.tensor([math.cos(angle), math.sin(angle)]) * distance
            assert measured(at_modes(1) + offset)["quality"] == quality


def test_the_radius_and_the_deviation_are_the_mixtures() -> None:
    wide = Mixture("ring8", 2.0, 0.1)
    judge = MixtureJudge(wide)
    assert judge.identity == "ring8-radius-2-deviation-0.1"
    found = judge(torch.from_numpy(wide.draw("test")))
    assert found[1] is not None
    assert found[1].double().mean() == pytest.approx(1 - math.exp(-4.5), abs=0.003)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Of samples with known shares: the share of good ones, and the divergence, in 95 % intervals."""
    rng, covered = np.random.default_rng(0), np.zeros(2)
    shares = np.array([0.3, 0.2, 0.2, 0.1, 0.1, 0.06, 0.02, 0.02])
    truth = float(np.sum(shares * np.log(shares * 8)))
    for _ in range(40):
        modes = rng.choice(8, 1000, p=shares)
        far = torch.from_numpy(rng.random(1000) < 0.25)
        points = torch.from_numpy(RING.centers[modes]).float()
        points[far] *= 1.2
        found = measured(points, replicates=50)
        for i, (name, value) in enumerate((("quality", 0.75), ("kl", truth))):
            low, high = found[f"{name}_interval"]
            covered[i] += low <= value <= high
    assert (covered >= 33).all()  # 38 expected; fewer than 33 has a chance below 1 %


def test_samples_that_are_not_finite_are_an_error_in_words() -> None:
    def source(_start: int, _stop: int) -> Tensor:
        raise ExternalError("not finite")

    with pytest.raises(ExternalError, match="not finite"):
        count_modes(source, 10, MixtureJudge(RING), Group())


class ByBrightness:
    """Takes the brightness of a channel's first pixel for its digit."""

    def classify(self, images: Tensor) -> Tensor:
        digits = images[:, :, 0, 0].long()
        return 100 * digits[:, 0] + 10 * digits[:, 1] + digits[:, 2]


def test_stacked_images_are_compared_with_the_shares_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of digits 0 and 1 alone, three times as many zeros: eight modes whose shares are products."""
    monkeypatch.setattr(modes, "digit_classifier", lambda *_: ByBrightness())
    monkeypatch.setattr(modes, "load_labels", lambda *_, **__: np.array([0, 0, 0, 1]))
    judge = StackedJudge(16, None, torch.device("cpu"))
    assert judge.shares[[0, 1, 10, 11, 111]] == pytest.approx([27 / 64, 9 / 64, 9 / 64, 3 / 64, 1 / 64])
    images = torch.zeros(64, 3, 16, 16, dtype=torch.uint8)
    images[::4, 0] = 1  # a quarter of each channel, independently: as the data
    images[:, 1] = (torch.arange(64) // 4 % 4 == 0).byte()[:, None, None]
    images[:, 2] = (torch.arange(64) // 16 == 0).byte()[:, None, None]
    counts = count_modes(lambda start, stop: images[start:stop], 64, judge, Group())
    found = mode_metrics(counts, judge)
    assert found == pytest.approx({"modes_stacked-mnist": 8.0, "kl_stacked-mnist": 0.0})
    counts = count_modes(lambda _start, _stop: images[1:2].repeat(64, 1, 1, 1), 64, judge, Group())
    assert mode_metrics(counts, judge)["modes_stacked-mnist"] == 1.0
