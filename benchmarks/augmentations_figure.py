"""Draws real images under each augmentation, for docs/augmentation.md.

    python benchmarks/augmentations_figure.py [--dataset stacked-mnist] [--out docs/figures/augmentations.png]

Any data set that `d3gan train` takes can be drawn.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

from d3gan.augmentation.ada import GROUPS, AdaptiveAugmentation
from d3gan.augmentation.base import Augmentation
from d3gan.augmentation.diff_augment import POLICIES, DiffAugment
from d3gan.data.load import load_images
from d3gan.images import from_uint8, image_grid, to_uint8

IMAGES, SIZE = 10, 32


def augmentations() -> dict[str, Augmentation | None]:
    """Label of a row -> what it shows; each operation of ADA is certain."""
    rows: dict[str, Augmentation | None] = {"as they are": None}
    rows |= {name: DiffAugment([name]) for name in POLICIES}
    rows |= {",".join(POLICIES): DiffAugment(list(POLICIES))}
    rows |= {f"ada:{name}, p = 1": AdaptiveAugmentation([name], 3, SIZE, 1, fixed=1.0).float() for name in GROUPS}
    default = ["blit", "geom", "color"]
    rows |= {f"ada, p = {p:g}": AdaptiveAugmentation(default, 3, SIZE, 1, fixed=p).float() for p in (0.2, 0.5)}
    return rows


def main() -> None:
    """Draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="stacked-mnist", help="a name, a folder or a .zip")
    parser.add_argument("--out", type=Path, default=Path("docs/figures/augmentations.png"))
    options = parser.parse_args()
    pixels = load_images(options.dataset, image_size=SIZE, channels=3).images
    images = from_uint8(torch.from_numpy(pixels[:IMAGES].copy()))
    rng, rows = torch.Generator().manual_seed(0), augmentations()
    figure = Figure(figsize=(7.2, 0.56 * len(rows)), dpi=100)
    for axes, (label, augment) in zip(figure.subplots(len(rows)), rows.items(), strict=True):
        shown = images
        if augment is not None:
            shown = augment(images, torch.rand(IMAGES, augment.draws, generator=rng))
        axes.imshow(image_grid(to_uint8(shown).numpy(), columns=IMAGES), interpolation="nearest", aspect="equal")
        axes.set_axis_off()
        axes.text(-8, SIZE / 2, label, ha="right", va="center", fontsize=9)
    figure.subplots_adjust(left=0.23, right=0.99, top=0.995, bottom=0.005, hspace=0.05)
    figure.savefig(options.out)


if __name__ == "__main__":
    main()
