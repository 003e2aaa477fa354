"""Stacked MNIST: three random digits as red, green and blue, 1000 classes that a generator should all make.

A test of mode coverage, here with the numbers of images of PacGAN (Lin et al. 2018, arXiv:1712.04086, and its
program). Each channel's digit is drawn from all digits of MNIST's split of that name, independently of the others.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from d3gan.data.preprocess import ImageArray
from d3gan.data.published.catalog import StackedDataset
from d3gan.data.published.readers import BLOCK, Labels
from d3gan.randomness import stream

Triples = npt.NDArray[np.int64]
"""(N, 3): for each stacked image the indices of the source's images in its red, green and blue channel."""


def draw_triples(dataset: StackedDataset, split: str) -> Triples:
    """The triples of a split: always the same, at every size, whatever the seed of a run."""
    rng = stream(0, f"{dataset.name} {split}")
    shape = (dataset.split(split).count, 3)
    triples: Triples = torch.randint(dataset.source.split(split).count, shape, generator=rng).numpy()
    return triples


def stack(images: ImageArray, triples: Triples) -> Iterator[ImageArray]:
    """Blocks of stacked images, uint8 (n, 3, S, S), of grey ones (M, 1, S, S)."""
    for start in range(0, len(triples), BLOCK):
        yield images[triples[start : start + BLOCK], 0]


def stacked_labels(labels: Labels, triples: Triples, classes: int) -> Labels:
    """The stacked images' labels (N,) from the grey images' (M,): for ten classes 100 R + 10 G + B."""
    red, green, blue = labels[triples].T
    stacked: Labels = (red * classes + green) * classes + blue
    return stacked
