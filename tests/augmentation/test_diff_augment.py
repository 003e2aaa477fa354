"""DiffAugment's policies: known answers, ranges over many draws, gradients."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from d3gan.augmentation.diff_augment import POLICIES, DiffAugment, color, cutout, translation
from d3gan.config.combinations import POLICIES as NAMES

MANY = 4000


def images(count: int, channels: int = 3, size: int = 8) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(1)).double() * 2 - 1


def uniforms(count: int, draws: int) -> Tensor:
    return torch.rand(count, draws, generator=torch.Generator().manual_seed(2)).double()


def test_the_config_knows_the_policies_in_their_order() -> None:
    assert tuple(POLICIES) == NAMES


def test_color_follows_its_formulae() -> None:
    x, u = images(5), uniforms(5, 3)
    for before, after, (brightness, saturation, contrast) in zip(x, color(x, u), u.tolist(), strict=True):
        expected = before + brightness - 0.5
        grey = (expected[0] + expected[1] + expected[2]) / 3
        expected = grey + (expected - grey) * saturation * 2
        expected = expected.mean() + (expected - expected.mean()) * (0.5 + contrast)
        torch.testing.assert_close(after, expected)
    neutral = torch.tensor([[0.5, 0.5, 0.5]]).double().expand(5, 3)
    torch.testing.assert_close(color(x, neutral), x)


def test_the_saturation_of_grey_images_changes_nothing() -> None:
    x, u = images(3, 1), uniforms(3, 3)
    other = u.clone()
    other[:, 1] = 0.9
    torch.testing.assert_close(color(x, u), color(x, other))


@pytest.mark.parametrize(("size", "most"), [(8, 1), (16, 2), (32, 4), (20, 3)])
def test_translation_shifts_by_whole_pixels_and_fills_with_zeros(size: int, most: int) -> None:
    shifts = torch.arange(-most, most + 1)
    places = torch.cartesian_prod(shifts, shifts)
    u = (places + most + 0.5) / (2 * most + 1)
    x = images(1, 2, size) + 2
    for (down, right), after in zip(places.tolist(), translation(x.expand(len(u), -1, -1, -1), u), strict=True):
        expected = torch.zeros_like(x[0])
        rows, columns = (slice(max(0, s), size + min(0, s)) for s in (down, right))
        from_rows, from_columns = (slice(max(0, -s), size + min(0, -s)) for s in (down, right))
        expected[:, rows, columns] = x[0, :, from_rows, from_columns]
        assert torch.equal(after, expected)


def test_each_shift_is_as_likely() -> None:
    x = torch.zeros(MANY, 1, 32, 32)
    x[:, :, 16, 16] = 1
    counts = translation(x, uniforms(MANY, 2).float()).sum(dim=0)[0][12:21, 12:21]
    assert counts.sum() == MANY
    assert counts.sum(dim=0).sub(MANY / 9).abs().max() < 5 * (MANY / 9) ** 0.5
    assert counts.sum(dim=1).sub(MANY / 9).abs().max() < 5 * (MANY / 9) ** 0.5


@pytest.mark.parametrize(("size", "side"), [(8, 4), (32, 16), (9, 5)])
def test_cutout_removes_a_square_of_half_the_size_clipped_at_the_border(size: int, side: int) -> None:
    x, places = torch.ones(1, 2, size, size), size + 1 - side % 2
    for place in range(places):
        after = cutout(x, torch.tensor([[(place + 0.5) / places, 0.5]]))[0]
        assert torch.equal(after[0], after[1])
        rows = [r for r in range(size) if (after[0, r] == 0).any()]
        assert rows == [r for r in range(place - side // 2, place - side // 2 + side) if 0 <= r < size]
        assert (after[0] == 0).sum() == len(rows) * side
        assert set(after.unique().tolist()) == {0.0, 1.0}


def test_the_policies_come_in_one_order_with_numbers_of_their_own() -> None:
    x, u = images(4), uniforms(4, 7)
    both = DiffAugment(["cutout", "color", "translation"])
    assert both.draws == 7
    expected = cutout(translation(color(x, u[:, :3]), u[:, 3:5]), u[:, 5:])
    assert torch.equal(both(x, u), expected)
    assert torch.equal(DiffAugment(["cutout"])(x, u[:, 5:]), cutout(x, u[:, 5:]))


def test_ranges_and_means_of_color() -> None:
    """A white image becomes 1 + b; the contrast of a pixel that differs is c, its saturation s."""
    u = uniforms(MANY, 3)
    white = color(torch.ones(MANY, 3, 2, 2).double(), u)[:, 0, 0, 0] - 1
    x = torch.zeros(MANY, 3, 2, 2).double()
    x[:, :, 0] = 1
    steps = color(x, u)
    contrast = steps[:, 0, 0, 0] - steps[:, 0, 1, 0]
    x = torch.zeros(MANY, 3, 2, 2).double()
    x[:, 0] = 1
    red = color(x, u)
    saturation = (red[:, 0, 0, 0] - red[:, 1, 0, 0]) / contrast
    for values, low, high in ((white, -0.5, 0.5), (contrast, 0.5, 1.5), (saturation, 0.0, 2.0)):
        assert low <= values.min() < low + 0.01 < high - 0.01 < values.max() <= high
        assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.03)
    for a, b in pairwise((white, contrast, saturation)):
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1].item()) < 0.08


@pytest.mark.parametrize("name", POLICIES)
def test_gradients_and_their_gradients(name: str) -> None:
    x, augment = images(2, 3, 5).requires_grad_(), DiffAugment([name])
    u = uniforms(2, augment.draws)
    assert torch.autograd.gradcheck(lambda x: augment(x, u), x)
    assert torch.autograd.gradgradcheck(lambda x: augment(x, u).square(), x)


def test_bf16_images_are_changed_in_float32() -> None:
    x, augment = images(2).bfloat16(), DiffAugment(NAMES)
    u = uniforms(2, augment.draws).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = augment(x, u)
    assert found.dtype == torch.float32
    assert torch.equal(found, augment(x.float(), u))
