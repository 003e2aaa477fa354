"""Precision, recall, density and coverage: the definitions, and what rounding must not decide."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from d3gan.evaluation.metrics.features import UnusableFeaturesError
from d3gan.evaluation.metrics.prdc import Neighbors, neighbors


def points(count: int, seed: int, shift: float = 0.0, size: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=torch.float64) + shift


def means(per_image: Neighbors) -> list[float]:
    return [float(v.mean()) for v in (per_image.precision, per_image.recall, per_image.density, per_image.coverage)]


def by_definition(real: Tensor, fake: Tensor, k: int) -> list[float]:
    """The four papers' formulae, pair by pair."""

    def radius(rows: Tensor, i: int) -> float:
        return sorted(float((rows[i] - rows[j]).square().sum()) for j in range(len(rows)) if j != i)[k - 1]

    reals, fakes = [radius(real, i) for i in range(len(real))], [radius(fake, j) for j in range(len(fake))]
    apart = [[float((x - y).square().sum()) for y in fake] for x in real]
    pairs = list(itertools.product(range(len(real)), range(len(fake))))
    in_real = {(i, j) for i, j in pairs if apart[i][j] < reals[i]}
    in_fake = {(i, j) for i, j in pairs if apart[i][j] < fakes[j]}
    return [
        len({j for _, j in in_real}) / len(fake),
        len({i for i, _ in in_fake}) / len(real),
        len(in_real) / (k * len(fake)),
        len({i for i, _ in in_real}) / len(real),
    ]


def test_copies_are_not_authentic_and_other_images_are() -> None:
    real = points(40, 0)
    fake = torch.cat([points(30, 1), real[:10], real[:5] + 1e-3])
    per_image = neighbors(real, fake).authenticity
    assert per_image[30:].sum() == 0, "copies, exact and nearly"
    expected = []
    for y in fake[:30]:
        apart = [float((x - y).square().sum()) for x in real]
        nearest = apart.index(min(apart))
        others = [float((real[nearest] - x).square().sum()) for i, x in enumerate(real) if i != nearest]
        expected.append(float(min(apart) >= min(others)))
    assert per_image[:30].tolist() == expected
    assert 0.2 < sum(expected) / 30 < 1.0
    assert neighbors(torch.cat([real, real]), real).authenticity.sum() == 0, "of images that are there twice too"
    assert neighbors(real, points(30, 1, 100.0)).authenticity.mean() == 1.0


def test_authenticity_is_taken_in_blocks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = points(50, 0), points(60, 1)
    whole = neighbors(real, fake).authenticity
    monkeypatch.setattr("d3gan.evaluation.metrics.prdc._ROWS", 7)
    assert torch.equal(neighbors(real, fake).authenticity, whole)


@pytest.mark.parametrize("shift", [0.0, 0.7, 1.5])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_four_are_what_the_papers_define(k: int, shift: float) -> None:
    real, fake = points(40, 0), points(30, 1, shift)
    assert means(neighbors(real, fake, k)) == pytest.approx(by_definition(real, fake, k), abs=1e-12)


def test_many_rows_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = points(50, 0), points(60, 1)
    whole = means(neighbors(real, fake))
    monkeypatch.setattr("d3gan.evaluation.metrics.prdc._ROWS", 7)
    assert means(neighbors(real, fake)) == whole


def test_identical_sets_are_covered_and_of_density_one() -> None:
    rows = points(200, 2).float()
    # A ball holds its own image and k - 1 neighbours; the k-th lies on its edge, which does not count.
    assert means(neighbors(rows, rows.clone())) == [1.0, 1.0, 1.0, 1.0]
    assert means(neighbors(rows + 1e4, rows + 1e4)) == [1.0, 1.0, 1.0, 1.0]


def test_sets_far_apart_have_nothing_in_common() -> None:
    assert means(neighbors(points(30, 0), points(30, 1, 100.0))) == [0.0, 0.0, 0.0, 0.0]


def test_a_collapsed_generator_is_precise_and_covers_little() -> None:
    real = points(100, 0)
    collapsed = real[:1].repeat(50, 1)
    precision, recall, density, coverage = means(neighbors(real, collapsed))
    assert precision == 1.0
    assert recall == 0.0
    assert density > 0.0
    assert coverage < 0.2


def test_duplicates_among_the_real_images_are_no_harm() -> None:
    rows = points(30, 3).repeat(8, 1)
    assert means(neighbors(rows, rows.clone()))[:2] == [0.0, 0.0], "balls of radius 0 hold nothing, on any machine"


@given(
    real=st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=4, max_size=14),
    fake=st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=4, max_size=14),
    offset=st.sampled_from([0.0, 0.1, 1000.3]),
)
@settings(max_examples=60, deadline=None)
def test_ties_fall_outside_whatever_the_rounding(
    real: list[tuple[int, int]], fake: list[tuple[int, int]], offset: float
) -> None:
    # On a small grid most distances are ties; offsets and the mean then round them in different directions.
    a, b = torch.tensor(real, dtype=torch.float64), torch.tensor(fake, dtype=torch.float64)
    assert means(neighbors(a + offset, b + offset, 3)) == pytest.approx(by_definition(a, b, 3), abs=1e-12)


def test_threads_and_precision_decide_nothing() -> None:
    real, fake = points(300, 0).float(), points(300, 1, 0.3).float()
    one = means(neighbors(real, fake))
    torch.set_num_threads(2)
    assert means(neighbors(real, fake)) == one
    assert means(neighbors(real.double(), fake.double())) == one


@pytest.mark.parametrize(
    ("real", "fake", "words"),
    [
        (points(5, 0), points(9, 1), "more than 5"),
        (points(9, 0), points(5, 1), "more than 5"),
        (points(9, 0), points(9, 1, size=4), "one D"),
        (points(9, 0), points(9, 1) * torch.inf, "NaN or infinite"),
    ],
)
def test_what_has_no_neighbours_is_refused(real: Tensor, fake: Tensor, words: str) -> None:
    with pytest.raises(UnusableFeaturesError, match=words):
        neighbors(real, fake)
