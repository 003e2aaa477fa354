"""A small set like MNIST, of ten patterns that anything learns, and one stacked from it."""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d3gan.data.published.catalog import Content, Dataset, OfficialFile, Part, Split, StackedDataset, StackedSplit
from tests.data.published.formats import idx, md5, sha256

COUNTS = {"train": 200, "test": 60}


@dataclass(frozen=True)
class TinyDigits:
    """The data set, its files, and by split its images (N, 1, 28, 28) and labels (N,)."""

    dataset: Dataset
    files: dict[str, bytes]
    images: dict[str, npt.NDArray[np.uint8]]
    labels: dict[str, npt.NDArray[np.int64]]

    def put(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)

    @property
    def stacked(self) -> StackedDataset:
        return StackedDataset("tiny-stacked", self.dataset, (StackedSplit("train", 40), StackedSplit("test", 12)))


def tiny_digits(seed: int = 0, *, learnable: bool = True) -> TinyDigits:
    """Digit k is a bright square at place k of a board of 3 x 4; no two images are equal.

    Args:
        seed: other images with another one.
        learnable: whether the labels have to do with the images.
    """
    random = np.random.default_rng(seed)
    images, labels, files, official = {}, {}, {}, []
    for split, count in COUNTS.items():
        digits = random.permutation(np.arange(count) % 10)
        pixels = random.integers(0, 60, (count, 1, 28, 28), np.uint8)
        for image, digit in zip(pixels, digits, strict=True):
            y, x = 3 + 8 * (digit // 4), 1 + 7 * (digit % 4)
            image[0, y : y + 6, x : x + 5] += 180
        images[split], labels[split] = pixels, digits if learnable else random.integers(0, 10, count)
        for name, data in (
            (f"{split}-images", idx(pixels[:, 0])),
            (f"{split}-labels", idx(labels[split].astype(np.uint8))),
        ):
            files[f"{name}.gz"] = packed = gzip.compress(data)
            official.append(
                OfficialFile(f"{name}.gz", len(packed), (Content(name, sha256=sha256(data)),), md5=md5(packed))
            )
    splits = tuple(
        Split(split, (Part(f"{split}-images", count),), (Part(f"{split}-labels", count),))
        for split, count in COUNTS.items()
    )
    dataset = Dataset("tiny-digits", "idx", (1, 28, 28), 10, tuple(official), splits, mirrors=())
    return TinyDigits(dataset, files, images, labels)
