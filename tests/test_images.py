from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from d3gan.errors import ConfigError
from d3gan.images import captioned, from_uint8, image_grid, interpolate, save_animation, save_png, to_uint8


def test_every_pixel_value_survives_the_way_there_and_back() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    for dtype in (torch.float32, torch.float64):
        images = from_uint8(values, dtype)
        assert images[[0, 255]].tolist() == [-1, 1]
        assert torch.equal(to_uint8(images), values)


def test_values_are_rounded_and_clipped_never_stretched_or_wrapped() -> None:
    images = torch.tensor([-7.0, -1.0, -0.999, 0.0, 0.004, 1.0, 1.5])
    assert to_uint8(images).tolist() == [0, 0, 0, 128, 128, 255, 255]
    assert to_uint8(torch.full((4,), 0.25)).tolist() == [159] * 4, "a flat image keeps its value"


def test_a_grid_lays_images_out_row_by_row() -> None:
    images = np.zeros((5, 3, 4, 6), np.uint8)
    images[:] = np.arange(1, 6, dtype=np.uint8)[:, None, None, None]
    pixels = np.asarray(image_grid(images, columns=3, gap=1))
    assert pixels.shape == (2 * 5 + 1, 3 * 7 + 1, 3)
    assert pixels[1, 1].tolist() == [1, 1, 1]
    assert pixels[1, 15].tolist() == [3, 3, 3]
    assert pixels[6, 8].tolist() == [5, 5, 5]
    assert pixels[6, 15].tolist() == pixels[0, 0].tolist() == [0, 0, 0]
    assert image_grid(images[:, :1]).mode == "L"
    assert image_grid(images[:1], columns=8).size == (10, 8)


def test_a_png_holds_the_pixels_and_its_text(tmp_path: Path) -> None:
    image = image_grid(np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), np.uint8))
    save_png(image, tmp_path / "deep" / "a.png", {"step": "7"})
    with Image.open(tmp_path / "deep" / "a.png") as read:
        assert np.array_equal(np.asarray(read), np.asarray(image))
        assert read.info["step"] == "7"


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_has_its_frames_in_order_and_never_ends(suffix: str, tmp_path: Path) -> None:
    frames = [captioned(Image.new("L", (20, 20), shade), f"step {shade}", 2) for shade in (0, 120, 240)]
    save_animation(frames, tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as read:
        assert read.n_frames == 3  # type: ignore[attr-defined]
        assert read.info["loop"] == 0
        for i, shade in enumerate((0, 120, 240)):
            read.seek(i)
            pixel = read.convert("RGB").getpixel((20, 20))
            assert isinstance(pixel, tuple)
            assert abs(pixel[0] - shade) < 8


def test_other_animations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.gif or \.webp"):
        save_animation([Image.new("L", (2, 2))], tmp_path / "a.png")


def test_a_caption_can_be_seen() -> None:
    framed = captioned(Image.new("L", (100, 100)), "step 1234", 3)
    assert framed.width == 300
    strip = np.asarray(framed)[300:]
    assert strip.max() == 255, "white text on the strip"


def test_interpolation_keeps_its_ends_and_its_length() -> None:
    start, end = torch.randn(2, 3, 50, dtype=torch.float64)
    arc = interpolate(start, end, 7)
    assert arc.shape == (3, 7, 50)
    torch.testing.assert_close(arc[:, 0], start)
    torch.testing.assert_close(arc[:, -1], end)
    unit = interpolate(start / start.norm(dim=1, keepdim=True), end / end.norm(dim=1, keepdim=True), 7)
    torch.testing.assert_close(unit.norm(dim=2), torch.ones(3, 7, dtype=torch.float64))


def test_interpolation_between_opposite_latents_stays_bounded() -> None:
    start = torch.randn(3, 1, dtype=torch.float64)
    arc = interpolate(start, -2 * start, 5)
    assert (arc.abs() <= 2 * start.abs()[:, None] + 1e-9).all()
    torch.testing.assert_close(arc[:, -1], -2 * start)


def test_interpolation_between_equal_latents_stays_there() -> None:
    start = torch.randn(1, 8, dtype=torch.float64)
    torch.testing.assert_close(interpolate(start, start, 4), start[:, None].expand(1, 4, 8))
