"""The real images that a generator is measured against."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from d3gan.data.folders import open_collection, side_of_first
from d3gan.data.load import ImageSet, load_images
from d3gan.data.published.catalog import find_dataset
from d3gan.errors import ConfigError
from d3gan.evaluation.feature_statistics import Source, gray_to_color
from d3gan.files import user_path


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
    """The side in pixels of the images of NAME:SPLIT, a folder or a .zip: that of the first one, if they differ.

    Raises:
        ConfigError: ``spec`` names no images.
        ExternalError: the images cannot be read.
    """
    if name_and_split := split_of(spec):
        dataset = find_dataset(name_and_split[0])
        assert dataset is not None  # split_of looked
        return dataset.shape[1]
    path = user_path(spec)
    if not path.is_dir() and path.suffix.lower() != ".zip":
        raise ConfigError(
            f"{flag} {spec}: no such images; allowed: NAME:SPLIT such as cifar10:test, a folder, a .zip"
        )
    with open_collection(path) as collection:
        return side_of_first(collection)


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

    def open(self, spec: str, flag: str, *, labels: bool = False) -> RealImages:
        """The images called ``spec``: a split of the run's data set, NAME:SPLIT, a folder or a .zip.

        Args:
            spec: what the user wrote.
            flag: where the user wrote it, for errors.
            labels: read their labels too.

        Raises:
            ConfigError: ``spec`` names no images, or images without the labels asked for.
            ExternalError: the images are not available.
        """
        name, source, split = self._resolve(spec, flag)
        image_set = load_images(
            source,
            split=split,
            image_size=self.image_size,
            channels=self.channels,
            data_dir=self.data_dir,
            labels=labels,
        )
        return RealImages(name, image_set)

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
        if path.is_dir() or path.is_file():
            return path.resolve().stem if path.is_file() else path.resolve().name, spec, "train"
        splits = "train, test, " if self.dataset else ""
        raise ConfigError(
            f"{flag} = {spec}: no such images; allowed: {splits}NAME:SPLIT such as cifar10:test, a folder or a .zip"
        )
