"""Value ranges, image grids, animations and interpolations."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from torch import Tensor

from d3gan.errors import ConfigError
from d3gan.files import replace_file


def from_uint8(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Maps uint8 0..255 linearly to [-1, 1], of the same shape."""
    return images.to(dtype).div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Maps [-1, 1] linearly to uint8 0..255, rounded to the nearest and clipped, of the same shape."""
    return images.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def image_grid(images: npt.NDArray[np.uint8], columns: int = 0, gap: int = 2) -> Image.Image:
    """Arranges images row by row.

    Args:
        images: (N, C, H, W) uint8, C = 1 or 3, N >= 1.
        columns: images per row; 0 makes the grid as square as possible.
        gap: width of black borders between and around images, in pixels.
    """
    count, channels, height, width = images.shape
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    rows = math.ceil(count / columns)
    canvas = np.zeros((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), np.uint8)
    for i, image in enumerate(images):
        top, left = gap + (i // columns) * (height + gap), gap + (i % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return Image.fromarray(canvas[:, :, 0] if channels == 1 else canvas)


def grid_rows(grid: Image.Image, rows: Sequence[int], height: int, gap: int = 2) -> Image.Image:
    """Some rows of an ``image_grid`` whose images are ``height`` pixels high, in this order."""
    canvas = Image.new(grid.mode, (grid.width, len(rows) * (height + gap) + gap))
    for i, row in enumerate(rows):
        top = row * (height + gap) + gap
        canvas.paste(grid.crop((0, top, grid.width, top + height)), (0, i * (height + gap) + gap))
    return canvas


def save_png(image: Image.Image, path: Path, text: dict[str, str] | None = None) -> None:
    """Writes a PNG whole or not at all, with text entries such as the training step."""
    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    with replace_file(path) as file:
        image.save(file, "png", pnginfo=info)


def enlarged(image: Image.Image, scale: int) -> Image.Image:
    """Enlarges an image ``scale`` times, without smoothing."""
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def captioned(image: Image.Image, caption: str, scale: int = 1) -> Image.Image:
    """Enlarges an image ``scale`` times and adds a line of text on a strip below it."""
    large = enlarged(image.convert("RGB"), scale)
    size = max(11, large.height // 22)
    framed = Image.new("RGB", (large.width, large.height + size + 8), "black")
    framed.paste(large)
    ImageDraw.Draw(framed).text((6, large.height + 3), caption, "white", ImageFont.load_default(size))
    return framed


def joined(images: Sequence[Image.Image], gap: int = 4) -> Image.Image:
    """Joins images side by side on black, with aligned upper edges."""
    width = sum(image.width for image in images) + gap * (len(images) - 1)
    canvas, left = Image.new("RGB", (width, max(image.height for image in images))), 0
    for image in images:
        canvas.paste(image, (left, 0))
        left += image.width + gap
    return canvas


def save_animation(frames: Sequence[Image.Image], path: Path, milliseconds: int = 200) -> None:
    """Writes frames of one size as an endless animation, .gif or .webp by the suffix; the last frame stays longer.

    Raises:
        ConfigError: the path has another suffix.
    """
    if path.suffix.lower() not in (".gif", ".webp"):
        raise ConfigError(f"--out {path}: the name of an animation must end in .gif or .webp")
    durations = [milliseconds] * (len(frames) - 1) + [max(milliseconds, 1500)]
    with replace_file(path) as file:
        frames[0].save(
            file, path.suffix[1:].lower(), save_all=True, append_images=frames[1:], duration=durations, loop=0
        )


def interpolate(start: Tensor, end: Tensor, count: int) -> Tensor:
    """Latents on the great-circle arc from one latent to another.

    Gaussian latents of many dimensions are close to a sphere; a straight line would leave it in the middle
    (White: Sampling Generative Networks, arXiv:1609.04468).

    Args:
        start: (R, nz).
        end: (R, nz).
        count: latents on each arc, both ends included, at least 2.

    Returns:
        (R, count, nz).
    """
    # The arc between nearly parallel or opposite latents is ill-defined; a straight line replaces it.
    share = torch.linspace(0, 1, count, dtype=start.dtype)[None, :, None]
    cosine = torch.nn.functional.cosine_similarity(start, end, dim=1).clamp(-1, 1)
    angle = cosine.acos()[:, None, None]
    straight = angle.sin() < 1e-3
    first = torch.where(straight, 1 - share, torch.sin((1 - share) * angle) / angle.sin())
    last = torch.where(straight, share, torch.sin(share * angle) / angle.sin())
    return first * start[:, None] + last * end[:, None]
