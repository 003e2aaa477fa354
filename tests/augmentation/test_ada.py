"""ADA's operations: known answers, ranges over many draws, gradients; and the control of p."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from d3gan.augmentation import wavelets
from d3gan.augmentation.ada import GROUPS, AdaptiveAugmentation, Operations, affine
from d3gan.augmentation.base import normal
from d3gan.config.combinations import ADA_GROUPS

MANY = 4000
ON = torch.ones(()).double()
OFF = torch.zeros(()).double()


def images(count: int, channels: int = 3, size: int = 16) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(1)).double() * 2 - 1


def smooth(count: int, size: int = 16) -> Tensor:
    """Images without detail, of which resampling loses little."""
    coarse = images(count, 3, 4)
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic", align_corners=True)


def uniforms(count: int, draws: int) -> Tensor:
    return torch.rand(count, draws, generator=torch.Generator().manual_seed(2)).double()


def group(name: str, channels: int = 3, size: int = 16) -> Operations:
    return GROUPS[name](channels, size).double()


def nothing(name: str, count: int = 1) -> Tensor:
    """Numbers by which, at p = 1/2, no operation of a group is done."""
    return torch.full((count, group(name).draws), 0.75).double()


def set_to(name: str, numbers: dict[int, float]) -> Tensor:
    """Numbers by which, at p = 1/2, the operations are done whose columns are 0."""
    u = nothing(name)
    for column, number in numbers.items():
        u[0, column] = number
    return u


HALF = torch.tensor(0.5).double()


def test_the_config_knows_the_groups_in_their_order() -> None:
    assert tuple(GROUPS) == ADA_GROUPS


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("name", GROUPS)
def test_at_p_0_nothing_changes(name: str, size: int, channels: int) -> None:
    x, one = images(4, channels, size), group(name, channels, size)
    u = uniforms(4, one.draws)
    torch.testing.assert_close(one(x, u, OFF), x, rtol=0, atol=1e-10)
    whole = AdaptiveAugmentation(ADA_GROUPS, channels, size, 4).float()
    found = whole(x.float(), uniforms(4, whole.draws))
    torch.testing.assert_close(found, x.float(), rtol=0, atol=1e-5)


# --- Pixels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_quarter_turns_are_exact(turns: int) -> None:
    x = images(1)
    after = group("blit")(x, set_to("blit", {2: 0.0, 3: (turns + 0.5) / 4}), HALF)
    assert torch.equal(after, torch.rot90(x, turns, dims=(2, 3)))


def test_flips_are_exact() -> None:
    x = images(1)
    assert torch.equal(group("blit")(x, set_to("blit", {0: 0.0, 1: 0.6}), HALF), x.flip(-1))
    assert torch.equal(group("blit")(x, set_to("blit", {0: 0.0, 1: 0.4}), HALF), x)


@pytest.mark.parametrize(("down", "right"), [(2, 0), (-2, 1), (0, -1), (1, 2)])
def test_shifts_by_whole_pixels_mirror_the_edge(down: int, right: int) -> None:
    """Of 16 pixels, up to 2."""
    x = images(1)
    u = set_to("blit", {4: 0.0, 5: (down / 2 + 1) / 2, 6: (right / 2 + 1) / 2})
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
    expected = padded[:, :, 2 - down : 18 - down, 2 - right : 18 - right]
    assert torch.equal(group("blit")(x, u, HALF), expected)


def test_flip_then_turn_then_shift() -> None:
    x = images(1)
    u = set_to("blit", {0: 0.0, 1: 0.9, 2: 0.0, 3: 0.3, 4: 0.0, 5: 1.0 - 1e-9, 6: 0.5})
    turned = torch.rot90(x.flip(-1), 1, dims=(2, 3))
    expected = torch.nn.functional.pad(turned, (0, 0, 2, 0), mode="reflect")[:, :, :16]
    assert torch.equal(group("blit")(x, u, HALF), expected)


# --- The affine map -------------------------------------------------------------------------------------------------


def test_a_rotation_by_a_quarter_equals_rot90_where_there_is_no_detail() -> None:
    x = smooth(2)
    for column in (2, 6):
        u = set_to("geom", {column: 0.0, column + 1: 0.25}).expand(2, -1)  # -90 degrees
        after = group("geom")(x, u, HALF)
        turned = (torch.rot90(x, k, dims=(2, 3)) for k in (1, 3))
        errors = sorted((after - each).abs().max().item() for each in turned)
        assert errors[0] < 0.06 < 0.5 < errors[1]


def test_a_shift_moves_to_the_right_and_down() -> None:
    x = smooth(1, 32)
    # N(0, 1) = 1/2 and -1/4 times 32 / 8 are 2 and -1 pixels.
    places = [0.5 + 0.5 * math.erf(z / math.sqrt(2)) for z in (0.5, -0.25)]
    one = group("geom", 3, 32)
    after = one(x, set_to("geom", {8: 0.0, 9: places[0], 10: places[1]}), HALF)
    torch.testing.assert_close(after[:, :, 4:-4, 4:-4], x[:, :, 5:-3, 2:-6], rtol=0, atol=0.01)


def test_the_scale_enlarges_and_the_stretch_widens() -> None:
    """The map leads from the new image back to the old one."""
    one = 0.5 + 0.5 * math.erf(1 / math.sqrt(2))  # N(0, 1) = 1
    matrix, shift = affine(set_to("geom", {0: 0.0, 1: one}), HALF, 16)
    expected = torch.eye(2).double() / 2**0.2
    torch.testing.assert_close(matrix[0, :, :, 0, 0], expected)
    assert torch.equal(shift, torch.zeros_like(shift))
    matrix, _ = affine(set_to("geom", {4: 0.0, 5: one}), HALF, 16)
    torch.testing.assert_close(matrix[0, :, :, 0, 0], torch.tensor([[2**-0.2, 0.0], [0.0, 2**0.2]]).double())


def test_the_map_undoes_its_operations_in_their_order() -> None:
    u = uniforms(7, 11)
    matrix, shift = affine(u, ON, 16)
    for i, row in enumerate(u):
        z = normal(row)
        scale, stretch = (2 ** (0.2 * z[k].item()) for k in (1, 5))
        first, second = ((2 * row[k].item() - 1) * math.pi for k in (3, 7))

        def turn(angle: float) -> Tensor:
            cosine, sine = math.cos(angle), math.sin(angle)
            return torch.tensor([[cosine, -sine], [sine, cosine]]).double()

        point = torch.tensor([3.0, -2.0]).double()
        there = turn(first) @ (scale * point)
        there = turn(second) @ (torch.tensor([stretch, 1 / stretch]).double() * there) + 0.125 * 16 * z[9:11]
        back = matrix[i, :, :, 0, 0] @ there + shift[i, :, 0, 0]
        torch.testing.assert_close(back, point)


def test_ranges_of_the_affine_map() -> None:
    """At p = 1 each: log2 of the scale and of the stretch N(0, 0.2²), the shift N(0, 0.125²) of the size."""
    u = uniforms(MANY, 11)
    matrix, shift = (each.squeeze() for each in affine(u, ON, 16))
    scale = -0.5 * torch.linalg.det(matrix).log2()
    stretch = torch.linalg.svdvals(matrix)[:, 0].log2() + scale
    moved = -torch.linalg.solve(matrix, shift)
    assert scale.mean().abs() < 0.02
    assert scale.std().item() == pytest.approx(0.2, rel=0.05)
    assert stretch.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.05)
    for each in moved.T:
        assert each.mean().abs() < 0.2
        assert each.std().item() == pytest.approx(2.0, rel=0.05)


def test_rotations_are_as_frequent_as_p_says() -> None:
    p = torch.tensor(0.36).double()
    u = uniforms(MANY, 11)
    u[:, [0, 4, 8]] = 0.9  # no other operation
    matrix = affine(u, p, 16)[0].squeeze()
    turned = (matrix - torch.eye(2)).flatten(1).abs().amax(dim=1) > 1e-9
    assert turned.double().mean().item() == pytest.approx(0.36, abs=0.03)
    for gate in (2, 6):
        assert (u[:, gate] < 0.2).double().mean().item() == pytest.approx(0.2, abs=0.03)  # 1 - √(1 - 0.36)


def test_edges_are_mirrored() -> None:
    """A bright image stays bright wherever it is moved."""
    after = group("geom")(torch.ones(200, 1, 16, 16).double(), uniforms(200, 11), ON)
    torch.testing.assert_close(after, torch.ones_like(after), rtol=0, atol=1e-10)


def test_the_filter_is_the_least_asymmetric_wavelet_of_six_vanishing_moments() -> None:
    h, k = wavelets.SYM6, np.arange(12)
    for shift in range(6):
        assert (h[2 * shift :] * h[: 12 - 2 * shift]).sum() == pytest.approx(1.0 if shift == 0 else 0.0, abs=1e-10)
    for power in range(6):
        assert ((-1.0) ** k * k**power * h).sum() == pytest.approx(0.0, abs=1e-7)
    assert np.convolve(wavelets.SYM2, wavelets.SYM2[::-1])[1::2] == pytest.approx([0.0, 1.0, 0.0], abs=1e-12)


@pytest.mark.parametrize("size", [16, 33])
def test_halving_undoes_doubling(size: int) -> None:
    product = wavelets.halving(size) @ wavelets.doubling(size)[1:-1]
    torch.testing.assert_close(product, torch.eye(size).double(), rtol=0, atol=1e-10)


# --- Colours --------------------------------------------------------------------------------------------------------


def test_brightness_and_contrast_follow_their_formulae() -> None:
    x, at_one = images(1), 0.5 + 0.5 * math.erf(1 / math.sqrt(2))
    torch.testing.assert_close(group("color")(x, set_to("color", {0: 0.0, 1: at_one}), HALF), x + 0.2)
    torch.testing.assert_close(group("color")(x, set_to("color", {2: 0.0, 3: at_one}), HALF), x * 2**0.5)
    both = set_to("color", {0: 0.0, 1: at_one, 2: 0.0, 3: at_one})
    torch.testing.assert_close(group("color")(x, both, HALF), (x + 0.2) * 2**0.5)


def test_the_luma_flip_is_a_reflection_about_the_grey_axis() -> None:
    x, u = images(1), set_to("color", {4: 0.0, 5: 0.9})
    after = group("color")(x, u, HALF)
    torch.testing.assert_close(after.mean(dim=1), -x.mean(dim=1))
    torch.testing.assert_close(after - after.mean(dim=1, keepdim=True), x - x.mean(dim=1, keepdim=True))
    torch.testing.assert_close(group("color")(after, u, HALF), x)


def test_hue_turns_the_colour_and_keeps_the_luma() -> None:
    x = images(1)
    third = group("color")(x, set_to("color", {6: 0.0, 7: 0.5 + 1 / 3}), HALF)  # 120 degrees
    torch.testing.assert_close(third, x.roll(1, dims=1))
    any_angle = group("color")(x, set_to("color", {6: 0.0, 7: 0.1}), HALF)
    torch.testing.assert_close(any_angle.mean(dim=1), x.mean(dim=1))
    torch.testing.assert_close(any_angle.square().sum(dim=1), x.square().sum(dim=1))


def test_saturation_keeps_the_luma() -> None:
    x, at_one = images(1), 0.5 + 0.5 * math.erf(1 / math.sqrt(2))
    grey = x.mean(dim=1, keepdim=True)
    after = group("color")(x, set_to("color", {8: 0.0, 9: at_one}), HALF)
    torch.testing.assert_close(after, grey + 2 * (x - grey))


def test_a_grey_image_is_changed_as_one_of_three_equal_channels() -> None:
    x, u = images(20, 1), uniforms(20, 10)
    of_three = group("color")(x.expand(-1, 3, -1, -1), u, ON)
    torch.testing.assert_close(group("color", 1)(x, u, ON), of_three[:, :1])
    torch.testing.assert_close(of_three[:, 0], of_three[:, 2])


def test_ranges_of_the_colours() -> None:
    u = uniforms(MANY, 10)
    grey = group("color")(torch.tensor([0.0, 1.0]).double().expand(MANY, 3, 1, 2), u, ON)[:, 0, 0]
    contrast = (grey[:, 1] - grey[:, 0]).abs()
    brightness = grey[:, 0] / (grey[:, 1] - grey[:, 0])
    red = group("color")(torch.tensor([1.0, 0.0, 0.0]).double().view(1, 3, 1, 1).expand(MANY, 3, 1, 1), u, ON)
    chroma = (red - red.mean(dim=1, keepdim=True)).flatten(1)
    saturation = (chroma.norm(dim=1) / (contrast * (2 / 3) ** 0.5)).log2()
    for values, deviation in ((brightness, 0.2), (contrast.log2(), 0.5), (saturation, 1.0)):
        assert values.mean().abs() < 0.07 * deviation
        assert values.std().item() == pytest.approx(deviation, rel=0.05)
    assert (grey[:, 1] < grey[:, 0]).double().mean().item() == pytest.approx(0.5, abs=0.03)
    axis = torch.tensor([2.0, -1.0, -1.0]).double() / 6**0.5
    assert ((chroma @ axis) / chroma.norm(dim=1)).mean().abs() < 0.05  # all hues alike


# --- Filters, noise, cutout -----------------------------------------------------------------------------------------


def test_the_bands_add_up_to_the_image_and_pass_their_frequencies() -> None:
    bands = np.array(wavelets.band_filters())
    whole = np.zeros(bands.shape[1])
    whole[len(whole) // 2] = 1
    np.testing.assert_allclose(bands.sum(axis=0), whole, atol=1e-12)
    np.testing.assert_allclose(bands, bands[:, ::-1], atol=1e-12)
    responses = np.abs(np.fft.rfft(bands, 512))  # 0 … π
    for band, (low, high) in enumerate([(0, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 1 / 2), (1 / 2, 1)]):
        middle = round(256 * (low + high) / 2)
        assert responses[:, middle].argmax() == band
    assert responses[0, 0] == pytest.approx(1)
    assert responses[3, 256] == pytest.approx(1)


def test_a_bands_gain_is_normalised_by_the_usual_power() -> None:
    """The mean of an image is of the lowest band; two passes, rows and columns."""
    x, at_one = torch.ones(1, 3, 16, 16).double(), 0.5 + 0.5 * math.erf(1 / math.sqrt(2))
    lowest = group("filter")(x, set_to("filter", {0: 0.0, 1: at_one}), HALF)
    torch.testing.assert_close(lowest, x * 2**2 * 13 / (10 * 4 + 3))
    highest = group("filter")(x, set_to("filter", {6: 0.0, 7: at_one}), HALF)
    torch.testing.assert_close(highest, x * 13 / (12 + 4))
    board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double().repeat(1, 3, 8, 8)
    sharper = group("filter")(board, set_to("filter", {6: 0.0, 7: at_one}), HALF)
    torch.testing.assert_close(sharper[..., 4:-4, 4:-4], (board * 2**2 * 13 / (12 + 4))[..., 4:-4, 4:-4])


def test_noise_has_a_half_normal_deviation() -> None:
    one = group("noise")
    u = uniforms(1000, one.draws)
    noise = one(torch.zeros(1000, 3, 16, 16).double(), u, ON)
    deviations = noise.flatten(1).std(dim=1)
    assert noise.mean().abs() < 1e-3
    assert deviations.square().mean().sqrt().item() == pytest.approx(0.1, rel=0.1)
    assert deviations.mean().item() == pytest.approx(0.1 * math.sqrt(2 / math.pi), rel=0.1)
    half = (one(torch.zeros(1000, 3, 16, 16).double(), u, HALF) != 0).flatten(1).any(dim=1)
    assert half.double().mean().item() == pytest.approx(0.5, abs=0.06)


def test_cutout_removes_a_quarter_of_the_image_where_it_is_inside() -> None:
    after = group("cutout")(torch.ones(1, 3, 16, 16).double(), set_to("cutout", {0: 0.0, 1: 0.5, 2: 0.25}), HALF)
    expected = torch.ones(3, 16, 16).double()
    expected[:, 4:12, 0:8] = 0
    assert torch.equal(after[0], expected)
    many = group("cutout")(torch.ones(MANY, 1, 16, 16).double(), uniforms(MANY, 3), ON)
    assert (many == 0).double().mean().item() == pytest.approx((1 / 2 - 1 / 16) ** 2, abs=0.01)  # some is outside


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_and_their_gradients(name: str, channels: int) -> None:
    one, x = group(name, channels, 5), images(2, channels, 5).requires_grad_()
    u = uniforms(2, one.draws)
    assert torch.autograd.gradcheck(lambda x: one(x, u, ON), x)
    assert torch.autograd.gradgradcheck(lambda x: one(x, u, ON).square(), x)


def test_bf16_images_are_changed_in_float32() -> None:
    x, augment = images(2).bfloat16(), AdaptiveAugmentation(ADA_GROUPS, 3, 16, 4, fixed=0.8).float()
    u = uniforms(2, augment.draws).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = augment(x, u)
    assert found.dtype == torch.float32
    assert torch.equal(found, augment(x.float(), u))


# --- The control of p -----------------------------------------------------------------------------------------------


def controlled(**numbers: float) -> AdaptiveAugmentation:
    return AdaptiveAugmentation(["color"], 3, 16, 50, **{"target": 0.6, "length": 1000} | numbers).double()  # type: ignore[arg-type]


def test_p_follows_the_signs_of_four_steps() -> None:
    """4 x 50 / 1000 each time; the mean over the discriminators and the steps decides."""
    augment = controlled()
    signs = [0.9, 0.9, 0.2, 0.5, 1.0, 1.0, 1.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.6, 0.6, 0.4, 0.4, -1.0, -1.0, -1.0, -1.0]
    signs += [1.0] * 28
    seen = []
    for sign in signs:
        p, r = augment.observe(torch.tensor([sign + 0.1, sign - 0.1]).double()).tolist()
        assert r == pytest.approx(sign)
        seen.append(p)
    means = [sum(signs[i : i + 4]) / 4 for i in range(0, len(signs), 4)]
    expected = [0.0]
    for mean in means:
        expected.append(min(1.0, max(0.0, expected[-1] + (0.2 if mean > 0.6 else -0.2))))
    assert seen == pytest.approx([p for p in expected[:-1] for _ in range(4)])
    assert expected[:6] == pytest.approx([0.0, 0.2, 0.4, 0.2, 0.0, 0.0])
    assert augment.p.item() == 1.0


def test_p_stays_where_r_is_the_target() -> None:
    augment = controlled(target=0.5)
    for _ in range(8):
        augment.observe(torch.tensor([0.5, 0.5]).double())
    assert augment.p.item() == 0.0


def test_a_fixed_p_stays_or_grows_as_a_cosine() -> None:
    still, growing = controlled(fixed=0.55), controlled(fixed=0.55, ramp_up=500)
    for step in range(15):
        for augment, p in (
            (still, 0.55),
            (growing, 0.55 * 0.5 * (1 - math.cos(math.pi * min(1.0, 50 * step / 500)))),
        ):
            assert augment.observe(torch.tensor([1.0]).double())[0].item() == pytest.approx(p, abs=1e-7)
