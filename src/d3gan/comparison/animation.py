"""Samples from the same latents through training, variants side by side."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from d3gan.comparison.grouping import conditions_of
from d3gan.comparison.runs import Run
from d3gan.errors import ExternalError
from d3gan.files import disk_errors
from d3gan.image_files import open_image
from d3gan.images import captioned, joined, save_animation
from d3gan.sampling.point_picture import SIDE

_SIDE = 5  # images per row, and rows, of each variant
_GAP = 2  # pixels between the images of a sample grid
_WIDTH = 184  # pixels of each variant, about
_MOST_FRAMES = 40
_MOST_VARIANTS = 4  # in one animation


def write_animations(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Writes an animation for each data set and batch size, of the first seed that all its variants have.

    Conditions of one variant, or of runs with fewer than two sample grids, get none. More than four variants are
    spread over several animations of four.

    Args:
        runs: of a comparison.
        folder: made where it is missing.

    Returns:
        The files written, .webp.

    Raises:
        ExternalError: the folder cannot be written.
    """
    with disk_errors(folder, "choose another folder with --out"):
        folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for condition in conditions_of(runs):
        variants = list(condition.variants.values())
        shared_seeds = sorted(set.intersection(*map(set, variants)))
        if len(variants) < 2 or not shared_seeds:
            continue
        for start in range(0, len(variants), _MOST_VARIANTS):
            shown = [seeds[shared_seeds[0]] for seeds in variants[start : start + _MOST_VARIANTS]]
            path = folder / f"{condition.slug}{f'-{start // _MOST_VARIANTS + 1}' if start else ''}.webp"
            if min(len(run.sample_grids) for run in shown) > 1:
                write_side_by_side(shown, path)
                paths.append(path)
    return paths


def write_side_by_side(runs: Sequence[Run], path: Path) -> int:
    """Writes sample grids of several runs as one animation, with the runs' variants and the step below.

    It has a frame for each step of the first run's grids, with the last grid of each other run up to that step; of
    many steps it has some, spread evenly. Each run shows the upper left 5 x 5 images of a grid: the same latents in
    every frame.

    Args:
        runs: at least one, each with sample grids.
        path: .gif or .webp.

    Returns:
        The number of frames.

    Raises:
        ExternalError: none of a run's grids can be read, or the animation cannot be written.
    """
    steps = [step for step, _ in runs[0].sample_grids]
    if len(steps) > _MOST_FRAMES:
        steps = [steps[round(i * (len(steps) - 1) / (_MOST_FRAMES - 1))] for i in range(_MOST_FRAMES)]
    frames = [captioned(joined([_panel(run, step) for run in runs]), f"step {step:,}") for step in steps]
    save_animation(frames, path)
    return len(frames)


def _panel(run: Run, step: int) -> Image.Image:
    """The run's last sample grid up to a step that can be read; where there is none, its first one."""
    # The picture of points is shown whole.
    side = SIDE if run.config.makes_points else _SIDE * (run.config.image_size + _GAP) + _GAP
    before = [file for at, file in reversed(run.sample_grids) if at <= step]
    for file in before + [file for at, file in run.sample_grids if at > step]:
        try:
            with open_image(file, ("PNG",)) as image:
                shown = image.crop((0, 0, min(side, image.width), min(side, image.height)))
                return captioned(shown, run.variant, max(1, round(_WIDTH / shown.width)))
        except ExternalError:
            continue  # torn by a crash; the page names it
    raise ExternalError(f"{run.path}: none of its sample grids can be read; delete samples/ there and resume it")
