"""The real images that a generator is measured against."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from d3gan.arrays import Arrays, UnreadableArrayError, open_arrays
from d3gan.data.files import disk_errors, hash_file
from d3gan.data.folders import open_collection, sides_of
from d3gan.data.load import ImageSet, load_images
from d3gan.data.locate import data_folder
from d3gan.data.prepared_cache import prepared_images, prepared_path
from d3gan.data.preprocess import PREPARATION, ImageArray, prepare_block
from d3gan.data.published.catalog import find_dataset
from d3gan.data.published.readers import BLOCK
from d3gan.errors import ConfigError, ExternalError
from d3gan.evaluation.feature_statistics import Source, gray_to_color
from d3gan.files import kind_of, user_path

logger = logging.getLogger("d3gan")

IMAGES_KEY = "arr_0"
"""Name of the images in an .npz, as NumPy names an array without one, and as FID programs read it."""


@dataclass(frozen=True)
class RealImages:
    """Real images, as a source of features."""

    name: str
    image_set: ImageSet

    def __len__(self) -> int:
        return len(self.image_set.images)

    @property
    def description(self) -> str:
        """Which images, how many, at what size."""
        count, channels, height, width = self.image_set.images.shape
        kind = "grey" if channels == 1 else "colour"
        split = "" if self.image_set.split == "all" else f" {self.image_set.split}"
        return f"{self.image_set.name}{split}, {count:,} images, {height} x {width}, {kind}"

    def source(self, indices: Tensor | None = None) -> Source:
        """The images, never flipped.

        Args:
            indices: (M,) int64: the images to take, in this order; None takes all.
        """
        images = self.image_set.images

        def read(start: int, stop: int) -> Tensor:
            block = images[start:stop] if indices is None else images[indices[start:stop].numpy()]
            return gray_to_color(torch.from_numpy(np.array(block)))

        return read


def split_of(spec: str) -> tuple[str, str] | None:
    """The data set and split that NAME:SPLIT names (``cifar10:test``), or None if ``spec`` is nothing of the kind."""
    name, colon, split = spec.partition(":")
    return (name, split) if colon and find_dataset(name) else None


def native_size(spec: str, flag: str) -> int:
    """The side in pixels of the images of NAME:SPLIT, a folder, a .zip or an .npz: the usual one, if they differ.

    Raises:
        ConfigError: ``spec`` names no images.
        ExternalError: the images cannot be read.
    """
    if name_and_split := split_of(spec):
        dataset = find_dataset(name_and_split[0])
        assert dataset is not None  # split_of looked
        return dataset.shape[1]
    path = user_path(spec)
    kind, suffix = kind_of(path), path.suffix.lower()
    if kind == "a file" and suffix == ".npz":
        with disk_errors(path), open_arrays(path) as arrays:
            return min(_array_shape(path, arrays)[1:3])
    if kind != "a folder" and not (kind == "a file" and suffix == ".zip"):
        problem = "no such images" if kind in ("", "a file") else f"is {kind}"
        raise ConfigError(
            f"{flag} {spec}: {problem}; allowed: NAME:SPLIT such as cifar10:test, a folder, .zip or .npz"
        )
    with open_collection(path) as collection:
        sides = Counter(sides_of(collection))
    side = max(sides, key=lambda each: (sides[each], each))
    if len(sides) > 1:
        shares = ", ".join(f"{count:,} of {each}" for each, count in sides.most_common(3))
        shares += ", …" if len(sides) > 3 else ""
        logger.warning(
            f"{spec}: its images differ in size ({shares} pixels on the shorter side); all are resized "
            f"to {side} x {side}; --image-size chooses another size"
        )
    return side


def _array_shape(path: Path, arrays: Arrays) -> tuple[int, int, int, int]:
    """(N, H, W, C) of the images in an .npz.

    Raises:
        ExternalError: it holds none.
    """
    try:
        shape, dtype = arrays.header(IMAGES_KEY)
        if len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape or dtype != np.uint8:
            raise UnreadableArrayError(f"{IMAGES_KEY}: is {dtype!s:.20} {shape!s:.60}")
    except UnreadableArrayError as error:
        raise ExternalError(
            f"{path}: holds no images, {IMAGES_KEY} (N, H, W, 1 or 3) of unsigned bytes ({error})"
        ) from error
    return shape[0], shape[1], shape[2], shape[3]


@dataclass(frozen=True)
class ImageFinder:
    """Finds the real images that a user names, and resizes them to the size of the fake ones."""

    dataset: str
    """The run's data set; empty without a run."""
    image_size: int
    """Side in pixels."""
    channels: int
    """1 or 3."""
    data_dir: str | None
    """Folder of data files and references; see ``d3gan.data.locate.data_folder``."""
    skip_damaged: bool = False
    """Whether to do without damaged files of folders and zips."""

    def open(self, spec: str, flag: str, *, labels: bool = False) -> RealImages:
        """The images called ``spec``: a split of the run's data set, NAME:SPLIT, a folder, a .zip or an .npz.

        Args:
            spec: what the user wrote.
            flag: where the user wrote it, for errors.
            labels: read their labels too.

        Raises:
            ConfigError: ``spec`` names no images, or images without the labels asked for.
            ExternalError: the images are not available.
        """
        if spec.lower().endswith(".npz") and kind_of(path := user_path(spec)):
            return RealImages(path.stem, self._images_in_array(path))
        name, source, split = self._resolve(spec, flag)
        image_set = load_images(
            source,
            split=split,
            image_size=self.image_size,
            channels=self.channels,
            data_dir=self.data_dir,
            labels=labels,
            skip_damaged=self.skip_damaged,
        )
        return RealImages(name, image_set)

    def _images_in_array(self, path: Path) -> ImageSet:
        """The images of an .npz, prepared as those of a folder are, block by block."""
        with disk_errors(path), open_arrays(path) as arrays:
            count, _, _, channels = _array_shape(path, arrays)
            shape = count, min(channels, self.channels), self.image_size, self.image_size
            facts = [hash_file(path, "sha256"), shape, PREPARATION]
            checksum = hashlib.sha256(json.dumps(facts).encode()).hexdigest()

            def make_blocks() -> Iterator[ImageArray]:
                logger.info(f"{path}: preparing {count:,} images at {self.image_size} x {self.image_size}")
                try:
                    for block in arrays.blocks(IMAGES_KEY, BLOCK):
                        images = np.ascontiguousarray(block.transpose(0, 3, 1, 2))
                        yield prepare_block(images, self.image_size, shape[1])
                except UnreadableArrayError as error:
                    raise ExternalError(f"{path}: cannot be read ({error}); make it again") from error

            cache = prepared_path(data_folder(self.data_dir), path.stem, "all", shape, checksum)
            return ImageSet(path.stem, "all", prepared_images(cache, shape, make_blocks), checksum)

    def _resolve(self, spec: str, flag: str) -> tuple[str, str, str]:
        """The name in metric names, the data set or path, and the split."""
        path = user_path(spec)
        if self.dataset and spec in ("train", "test", "extra", "unlabeled"):  # before a folder of that name
            if find_dataset(self.dataset) is not None:
                return spec, self.dataset, spec
            if not user_path(self.dataset).exists():
                raise ConfigError(
                    f"{flag} = {spec}: the run's images, {self.dataset}, are not there (a relative path starts from "
                    "the folder in which the run was started); give their current path, or another reference"
                )
            if spec == "train":
                return "all", self.dataset, "train"
            raise ConfigError(
                f"{flag} = {spec}: {self.dataset} has no splits; use train, or the path of other images"
            )
        if name_and_split := split_of(spec):
            return spec, *name_and_split
        kind = kind_of(path)
        if kind in ("a folder", "a file"):
            return path.resolve().stem if kind == "a file" else path.resolve().name, spec, "train"
        splits = "train, test, " if self.dataset else ""
        problem = f"is {kind}" if kind else "no such images"
        raise ConfigError(
            f"{flag} = {spec}: {problem}; allowed: {splits}NAME:SPLIT such as cifar10:test, a folder, .zip or .npz"
        )
