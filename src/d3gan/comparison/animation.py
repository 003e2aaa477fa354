"""Samples from the same latents through training, variants side by side."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from d3gan.comparison.grouping import settings_of
from d3gan.comparison.runs import Run
from d3gan.errors import ExternalError
from d3gan.files import disk_errors
from d3gan.images import captioned, joined, save_animation

_SHOWN = 5  # images a row and rows of each variant
_GAP = 2  # pixels between the images of a sample grid
_WIDTH = 184  # pixels that each variant gets, about
_MOST_FRAMES = 40
_MOST_VARIANTS = 4  # in one animation


def write_animations(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Writes an animation for each data set and batch size, of the first seed that all its variants have.

    Settings of one variant, or of runs with fewer than two sample grids, get none. Of more than four variants each
    four get one.

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
    for setting in settings_of(runs):
        shared = sorted(set.intersection(*(set(own) for own in setting.variants.values())))
        if len(setting.variants) < 2 or not shared:
            continue
        chosen = [own[shared[0]] for own in setting.variants.values()]
        for start in range(0, len(chosen), _MOST_VARIANTS):
            part = chosen[start : start + _MOST_VARIANTS]
            path = folder / f"{setting.slug}{f'-{start // _MOST_VARIANTS + 1}' if start else ''}.webp"
            if min(len(run.grids) for run in part) > 1:
                write_side_by_side(part, path)
                paths.append(path)
    return paths


def write_side_by_side(runs: Sequence[Run], path: Path) -> int:
    """Writes sample grids of several runs as one animation, with the runs' variants and the step below.

    A frame for each step of the first run's grids, the others with their last grid up to that step; of many steps
    some, spread evenly. The upper left 5 x 5 images of a grid are shown: the same latents in every frame.

    Args:
        runs: at least one, each with sample grids.
        path: .gif or .webp.

    Returns:
        The number of frames.

    Raises:
        ExternalError: none of a run's grids can be read, or the animation cannot be written.
    """
    steps = [step for step, _ in runs[0].grids]
    kept = range(len(steps)) if len(steps) <= _MOST_FRAMES else _spread(len(steps))
    frames = [captioned(joined([_panel(run, steps[i]) for run in runs]), f"step {steps[i]:,}") for i in kept]
    save_animation(frames, path)
    return len(frames)


def _spread(count: int) -> list[int]:
    """As many numbers below ``count`` as there may be frames, the first and the last among them."""
    return sorted({round(i * (count - 1) / (_MOST_FRAMES - 1)) for i in range(_MOST_FRAMES)})


def _panel(run: Run, step: int) -> Image.Image:
    """The run's last sample grid up to a step; where it has none that can be read, its first one."""
    side = _SHOWN * (run.config.image_size + _GAP) + _GAP
    before = [file for at, file in reversed(run.grids) if at <= step]
    for file in before + [file for at, file in run.grids if at > step]:
        try:
            with Image.open(file) as image:
                shown = image.crop((0, 0, min(side, image.width), min(side, image.height)))
                return captioned(shown, run.variant, max(1, round(_WIDTH / shown.width)))
        except (OSError, SyntaxError, ValueError):
            continue  # torn by a crash; the page names it
    raise ExternalError(f"{run.path}: none of its sample grids can be read; delete samples/ there and train it on")
