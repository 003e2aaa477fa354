"""Files of a generator's images: image grids, interpolations, arrays, animations."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from d3gan.data.points import mixture_in
from d3gan.errors import ConfigError, nearest
from d3gan.files import replace_file
from d3gan.image_files import open_image
from d3gan.images import captioned, enlarged, grid_rows, image_grid, interpolate, save_animation, save_png
from d3gan.models.base import GeneratorNetwork
from d3gan.randomness import draw_labels, draw_latents
from d3gan.runs.directory import find_run
from d3gan.runs.generator_file import load_generator, read_facts
from d3gan.sampling.generate import GRID_CLASSES, sample
from d3gan.sampling.point_picture import half_side, point_picture

logger = logging.getLogger("d3gan")

# An animation is enlarged to about this width in pixels, so that 32 x 32 images are visible.
ANIMATION_WIDTH = 500
# Images in one PNG.
MAX_GRID_IMAGES = 10_000


def write_image_grid(
    run: str,
    path: Path,
    num: int,
    columns: int,
    seed: int,
    device: str,
    scale: int = 1,
    classes: Sequence[str] = (),
    per_class: int = 0,
) -> None:
    """Writes ``num`` images as one PNG, each pixel enlarged ``scale`` times both ways; points as one picture.

    Of a generator with classes every row is one of them.

    Args:
        run: a run directory, or a generator.safetensors.
        path: of the PNG.
        num: number of images.
        columns: images per row; 0: as square as possible.
        seed: of the latents.
        device: where to compute.
        scale: how often to enlarge.
        classes: names or numbers; empty: all.
        per_class: images of each class; 0: ``num`` divided among them.

    Raises:
        ConfigError: there is no such run, or no such class, or the path does not end in .png.
        ExternalError: the generator's file is damaged, or the PNG cannot be written.
    """
    generator = load_generator(run, device)
    chosen = chosen_classes(run, generator, classes, per_class)
    labels = None
    if chosen and not columns:
        columns = per_class or max(1, num // len(chosen))
        num, labels = columns * len(chosen), torch.tensor(chosen).repeat_interleave(columns)
        shown = [generator.class_names[label] for label in chosen[:GRID_CLASSES]]
        logger.info(f"rows: {', '.join(shown)}{', …' if len(chosen) > GRID_CLASSES else ''}")
    _check_grid(path, num)
    samples = sample(generator, num, seed, labels=labels).numpy()
    picture = _picture(run, samples) if generator.makes_points else image_grid(samples, columns)
    save_png(enlarged(picture, scale), path)


def chosen_classes(run: str, generator: GeneratorNetwork, classes: Sequence[str], per_class: int = 0) -> list[int]:
    """The labels of the classes that a user names, all for none; empty for a generator without classes.

    A name comes before a number: of the class folders 1, 2 and 3, ``1`` is the first.

    Raises:
        ConfigError: the generator has no classes, or not this one.
    """
    if not generator.classes:
        if classes or per_class:
            flag = "--classes" if classes else "--per-class"
            raise ConfigError(f"{flag}: {run} was trained without classes; leave it out, or train with --conditional")
        return []
    names, chosen = generator.class_names, []
    for text in classes:
        if text in names:
            chosen.append(names.index(text))
        elif text.isdecimal() and int(text) < len(names):
            chosen.append(int(text))
        else:
            known = ", ".join(names[:GRID_CLASSES]) + (", …" if len(names) > GRID_CLASSES else "")
            raise ConfigError(
                f"--classes {text}: {run} has no such class{nearest(text, names)}; allowed: {known}, or 0 to "
                f"{len(names) - 1}"
            )
    return chosen or list(range(len(names)))


def _picture(run: str, points: npt.NDArray[np.float32]) -> Image.Image:
    """Points among the modes that the generator's file names."""
    mixture = mixture_in(read_facts(run))
    if mixture is None:
        return point_picture(points, float(np.quantile(np.abs(points), 0.99)) or 1.0)
    return point_picture(points, half_side(mixture.centers), mixture.centers)


def write_interpolation(
    run: str,
    path: Path,
    num: int,
    columns: int,
    seed: int,
    device: str,
    scale: int = 1,
    classes: Sequence[str] = (),
) -> None:
    """Writes rows of images, each row from one random latent to another; ``num`` images in all.

    Each row is of one class, the classes in turn. Arguments as for ``write_image_grid``.

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
    labels, rows = None, num // columns
    if chosen := chosen_classes(run, generator, classes):
        labels = torch.tensor([chosen[row % len(chosen)] for row in range(rows)]).repeat_interleave(columns)
    start, end = (draw_latents(rows, generator.nz, seed, "interpolation", k, device="cpu") for k in range(2))
    images = sample(generator, latents=interpolate(start, end, columns).flatten(0, 1), labels=labels)
    save_png(enlarged(image_grid(images.numpy(), columns), scale), path)


def write_array(
    run: str, path: Path, num: int, seed: int, device: str, classes: Sequence[str] = (), per_class: int = 0
) -> None:
    """Writes images and their latents as an .npz: ``arr_0`` (num, H, W, C) uint8 and ``latents`` (num, nz) float32.

    Common FID programs read the first name and this layout. Points are (num, 2) float32. Of a generator with classes
    ``labels`` (num,) int64 are there too: drawn with the shares that the classes have in the training data; with
    ``classes`` or ``per_class`` class by class.

    Raises:
        ConfigError: there is no such run, or no such class, or the path does not end in .npz.
        ExternalError: the generator's file is damaged, or the array cannot be written.
    """
    if path.suffix != ".npz":
        raise ConfigError(f"--npz {path}: the name must end in .npz")
    generator = load_generator(run, device)
    labels = None
    if chosen := chosen_classes(run, generator, classes, per_class):
        if classes or per_class:
            labels = torch.tensor(chosen).repeat_interleave(per_class or max(1, num // len(chosen)))
            num = len(labels)
        else:
            labels = draw_labels(num, read_facts(run)["class_counts"], seed, "sample labels", device="cpu")
    latents = draw_latents(num, generator.nz, seed, "samples", device="cpu")
    samples = sample(generator, latents=latents, labels=labels)
    array = (samples if generator.makes_points else samples.permute(0, 2, 3, 1)).numpy()
    with replace_file(path) as file:
        arrays: dict[str, Any] = {} if labels is None else {"labels": labels.numpy()}
        np.savez_compressed(file, array, latents=latents.numpy(), **arrays)


def write_animation(run: str, path: Path, classes: Sequence[str] = ()) -> int:
    """Writes the run's sample grids as an animation, each frame with its step below, and returns their number.

    Args:
        run: a run directory.
        path: of the animation.
        classes: names or numbers of classes, whose rows are shown; empty: all.

    Raises:
        ConfigError: there is no such run or class, it has no sample grids, or the path ends in neither .gif nor
            .webp.
        ExternalError: a sample grid is damaged, or the animation cannot be written.
    """
    grids = find_run(run).sample_grids()
    if not grids:
        raise ConfigError(f"{run}: has no sample grids (samples/step-*.png); train it first")
    frames, rows, height = [], list[int](), 0
    if classes:
        generator = load_generator(run)
        rows, height = chosen_classes(run, generator, classes), generator.sample_shape[-1]
        if max(rows) >= GRID_CLASSES:
            raise ConfigError(f"--animate: the sample grids of {run} show its first {GRID_CLASSES} classes alone")
    for step, file in grids:
        with open_image(file, ("PNG",), advice="delete it and run again") as grid:
            image = grid_rows(grid, rows, height) if rows else grid
            scale = max(1, round(ANIMATION_WIDTH / image.width))
            frames.append(captioned(image, f"step {step}", scale))
    save_animation(frames, path)
    return len(frames)


def _check_grid(path: Path, num: int) -> None:
    if num > MAX_GRID_IMAGES:
        raise ConfigError(f"--num {num}: a PNG shows at most {MAX_GRID_IMAGES:,} images; --npz FILE.npz holds more")
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--out {path}: the name must end in .png")
