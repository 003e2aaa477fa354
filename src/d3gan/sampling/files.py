"""Files of a generator's images: image grids, interpolations, arrays, animations."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from d3gan.data.points import mixture_in
from d3gan.errors import ConfigError
from d3gan.files import replace_file
from d3gan.image_files import open_image
from d3gan.images import captioned, enlarged, image_grid, interpolate, save_animation, save_png
from d3gan.randomness import draw_latents
from d3gan.runs.directory import find_run
from d3gan.runs.generator_file import load_generator, read_facts
from d3gan.sampling.generate import sample
from d3gan.sampling.point_picture import half_side, point_picture

# An animation is enlarged to about this width in pixels, so that 32 x 32 images are visible.
ANIMATION_WIDTH = 500
# Images in one PNG.
MAX_GRID_IMAGES = 10_000


def write_image_grid(run: str, path: Path, num: int, columns: int, seed: int, device: str, scale: int = 1) -> None:
    """Writes ``num`` images as one PNG, each pixel enlarged ``scale`` times both ways; points as one picture.

    Raises:
        ConfigError: there is no such run, or the path does not end in .png.
        ExternalError: the generator's file is damaged, or the PNG cannot be written.
    """
    generator = load_generator(run, device)
    _check_grid(path, num)
    samples = sample(generator, num, seed).numpy()
    picture = _picture(run, samples) if generator.makes_points else image_grid(samples, columns)
    save_png(enlarged(picture, scale), path)


def _picture(run: str, points: npt.NDArray[np.float32]) -> Image.Image:
    """Points among the modes that the generator's file names."""
    mixture = mixture_in(read_facts(run))
    if mixture is None:
        return point_picture(points, float(np.quantile(np.abs(points), 0.99)) or 1.0)
    return point_picture(points, half_side(mixture.centers), mixture.centers)


def write_interpolation(run: str, path: Path, num: int, columns: int, seed: int, device: str, scale: int = 1) -> None:
    """Writes rows of images, each row from one random latent to another; ``num`` images in all.

    Arguments as for ``write_image_grid``.

    Raises:
        ConfigError: there is no such run, it makes points, the path does not end in .png, or a row has fewer than two
            images.
        ExternalError: the generator's file is damaged, or the PNG cannot be written.
    """
    _check_grid(path, num)
    columns = columns or max(2, math.isqrt(num))
    if columns < 2 or num < columns:
        raise ConfigError(f"--num {num} --columns {columns}: an interpolation needs at least two images per row")
    generator = load_generator(run, device)
    if generator.makes_points:
        raise ConfigError(f"--interpolate: {run} makes points, and only images are interpolated; leave it out")
    start, end = (
        draw_latents(num // columns, generator.nz, seed, "interpolation", k, device="cpu") for k in range(2)
    )
    images = sample(generator, latents=interpolate(start, end, columns).flatten(0, 1))
    save_png(enlarged(image_grid(images.numpy(), columns), scale), path)


def write_array(run: str, path: Path, num: int, seed: int, device: str) -> None:
    """Writes images and their latents as an .npz: ``arr_0`` (num, H, W, C) uint8 and ``latents`` (num, nz) float32.

    Common FID programs read the first name and this layout. Points are (num, 2) float32.

    Raises:
        ConfigError: there is no such run, or the path does not end in .npz.
        ExternalError: the generator's file is damaged, or the array cannot be written.
    """
    if path.suffix != ".npz":
        raise ConfigError(f"--npz {path}: the name must end in .npz")
    generator = load_generator(run, device)
    latents = draw_latents(num, generator.nz, seed, "samples", device="cpu")
    samples = sample(generator, latents=latents)
    array = (samples if generator.makes_points else samples.permute(0, 2, 3, 1)).numpy()
    with replace_file(path) as file:
        np.savez_compressed(file, array, latents=latents.numpy())


def write_animation(run: str, path: Path) -> int:
    """Writes the run's sample grids as an animation, each frame with its step below, and returns their number.

    Raises:
        ConfigError: there is no such run, it has no sample grids, or the path ends in neither .gif nor .webp.
        ExternalError: a sample grid is damaged, or the animation cannot be written.
    """
    grids = find_run(run).sample_grids()
    if not grids:
        raise ConfigError(f"{run}: has no sample grids (samples/step-*.png); train it first")
    frames = []
    for step, file in grids:
        with open_image(file, ("PNG",), advice="delete it and run again") as image:
            scale = max(1, round(ANIMATION_WIDTH / image.width))
            frames.append(captioned(image, f"step {step}", scale))
    save_animation(frames, path)
    return len(frames)


def _check_grid(path: Path, num: int) -> None:
    if num > MAX_GRID_IMAGES:
        raise ConfigError(f"--num {num}: a PNG shows at most {MAX_GRID_IMAGES:,} images; --npz FILE.npz holds more")
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--out {path}: the name must end in .png")
