"""From a name or a path to images: find or fetch the files, prepare the images once, map them into memory."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from d3gan.data.files import locked, replace_file, safe_file_name
from d3gan.data.folders import Collection, DamagedImagesError, damaged_text, decoded_images, open_collection
from d3gan.data.labels import Classes, collection_classes, collection_key, prepared_classes
from d3gan.data.locate import data_folder, resolve_dataset
from d3gan.data.points import Mixture
from d3gan.data.prepared_cache import prepared_images, prepared_path
from d3gan.data.preprocess import PREPARATION, ImageArray, ordered_map, prepare_block
from d3gan.data.published.catalog import Dataset, StackedDataset
from d3gan.data.published.contents import open_content
from d3gan.data.published.readers import Labels, read_images, read_labels
from d3gan.data.published.sources import obtain
from d3gan.data.stacked_mnist import draw_triples, stack, stacked_labels
from d3gan.errors import ConfigError, ExternalError
from d3gan.files import read_file, write_text
from d3gan.progress_bar import progress_bar

logger = logging.getLogger("d3gan")


@dataclass(frozen=True)
class ImageSet:
    """The images of one split, ready for training.

    Attributes:
        name: ``mnist``, ``stacked-mnist``, or the folder's or zip's name without ending.
        split: ``train``, ``test``, ``extra`` (SVHN), ``unlabeled`` (STL-10); ``all`` for folders and zips.
        images: Read-only memory map, (N, C, S, S) uint8, 0..255. C is 1 if the source is grey or 1 channel was asked
            for (colour then becomes ITU-R 601 luminance), else 3. Of a set of points: (N, 2) float32.
        checksum: SHA-256 hex of all that decides these pixels: the source's content, the size, the number of
            channels and the version of the preparation. Equal for copies of the same files.
        mixture: That points were drawn from; None: these are images.
        labels: (N,) int64, 0 .. classes - 1; None where they were not asked for.
        class_names: Of the classes, in the order of the labels; empty without labels.
        left_out: Number of damaged files that ``images`` does without; the checksum is that of the others alone.
    """

    name: str
    split: str
    images: npt.NDArray[Any] = field(repr=False)
    checksum: str
    mixture: Mixture | None = None
    labels: Labels | None = field(default=None, repr=False)
    class_names: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Images of each class; empty without labels."""
        if self.labels is None:
            return ()
        return tuple(np.bincount(self.labels, minlength=len(self.class_names)).tolist())

    @property
    def identity(self) -> str:
        """``checksum``, with labels also of them."""
        if self.labels is None:
            return self.checksum
        labels = hashlib.sha256(self.labels.astype("<i8").tobytes()).hexdigest()
        return _checksum(images=self.checksum, labels=labels, classes=len(self.class_names))

    @property
    def unit(self) -> str:
        """What the images are called in messages."""
        return "images" if self.mixture is None else "points"


def points_of(mixture: Mixture, split: str = "train") -> ImageSet:
    """The points of a mixture, which are to a run what images are."""
    return ImageSet(mixture.name, split, mixture.draw(split), mixture.checksum(split), mixture)


def load_images(
    dataset: str | Path | Dataset | StackedDataset,
    *,
    split: str = "train",
    image_size: int = 32,
    channels: int = 3,
    data_dir: str | Path | None = None,
    workers: int = 2,
    labels: bool = False,
    skip_damaged: bool = False,
) -> ImageSet:
    """Loads the images of a data set: fetches and prepares them the first time, then memory-maps the cache.

    Images are cropped to the middle square and resized bilinearly. Of a published set only the files that hold this
    split's images are fetched, and once the images are prepared the official files are no longer needed.

    Args:
        dataset: A set's name (see `dataset_names`), a folder or .zip of images, or a description.
        split: Which split of the set; folders and zips have only one.
        image_size: Height and width, in pixels.
        channels: 1 or 3. Grey published sets stay at 1 channel either way; colour folders get as many as asked for.
            Stacked MNIST has 3.
        data_dir: Folder of the data files; see `data_folder`.
        workers: Threads that decode and resize.
        labels: Read the images' labels too; where a folder's or zip's are, says ``d3gan.data.labels``. Stacked
            MNIST's three digits are 1,000 classes.
        skip_damaged: Do without a folder's or zip's files that cannot be read as images, as if they were not there.

    Raises:
        ConfigError: an unknown data set, split, size or number of channels; or images without the labels asked for.
        ExternalError: files are not available, or cannot be read or written.
    """
    if channels not in (1, 3):
        raise ConfigError(f"nc = {channels}: images can have 1 or 3 channels")
    if image_size < 1:
        raise ConfigError(f"image_size = {image_size}: must be at least 1")
    source = resolve_dataset(dataset)
    folder = data_folder(data_dir)
    if isinstance(source, Path):
        return _load_collection(source, image_size, channels, folder, workers, labels, skip_damaged)
    _check_split(source, split)
    # Before the images, whose preparation may take minutes.
    classes = _published_classes(source, split, folder) if labels else None
    if isinstance(source, StackedDataset):
        return _with_classes(_load_stacked(source, split, image_size, channels, folder, workers), classes)
    return _with_classes(_load_published(source, split, image_size, channels, folder, workers), classes)


def _with_classes(image_set: ImageSet, classes: Classes | None) -> ImageSet:
    if classes is None:
        return image_set
    return dataclasses.replace(image_set, labels=classes.labels, class_names=classes.names)


def _published_classes(source: Dataset | StackedDataset, split: str, folder: Path) -> Classes:
    """The labels of a published or stacked set's split, with the classes' names, from the cache if they are there."""
    dataset = source.source if isinstance(source, StackedDataset) else source
    parts = dataset.split(split).labels
    if not parts:
        raise ConfigError(f"split = {split}: {source.name} has no labels for it")
    names = dataset.class_names or tuple(map(str, range(dataset.classes)))
    if isinstance(source, StackedDataset):
        names = tuple(f"{label:03d}" for label in range(dataset.classes**3))
    digests = [dataset.content(part.content)[1].digest[1] for part in parts]
    key = _checksum(set=source.name, split=split, content=digests, names=names)
    path = folder / "prepared" / f"{safe_file_name(source.name)}-{split}-labels-{key[:16]}.npz"

    def read() -> Classes:
        return Classes(load_labels(source, split=split, data_dir=folder), names)

    return prepared_classes(path, source.split(split).count, read)


def _check_split(source: Dataset | StackedDataset, split: str) -> None:
    splits = [each.name for each in source.splits]
    if split not in splits:
        raise ConfigError(f"split = {split}: {source.name} has {', '.join(splits)}")


def load_labels(
    dataset: str | Path | Dataset | StackedDataset, *, split: str = "train", data_dir: str | Path | None = None
) -> Labels:
    """Reads the labels of a published or stacked set's images, in their order; fetches their files where needed.

    Returns:
        int64 (N,): 0 .. classes - 1, of stacked MNIST 100 R + 10 G + B. (0,) if the split has no labels.

    Raises:
        ConfigError: an unknown data set or split, or a path; ``load_images`` reads the labels of folders and zips.
        ExternalError: files are not available, or cannot be read.
    """
    source = resolve_dataset(dataset)
    if isinstance(source, Path):
        raise ConfigError(f"dataset = {dataset}: is a path; give a published set's name")
    _check_split(source, split)
    if isinstance(source, StackedDataset):
        labels = load_labels(source.source, split=split, data_dir=data_dir)
        return stacked_labels(labels, draw_triples(source, split), source.source.classes)
    parts = source.split(split).labels
    copies = obtain(source, [part.content for part in parts], data_folder(data_dir))
    return read_labels(source, source.split(split), partial(open_content, source, copies))


def _checksum(**parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def images_checksum(dataset: Dataset, split: str, size: int, channels: int) -> str:
    """The ``checksum`` of the ImageSet that ``load_images`` returns for a published set, known without its files."""
    digests = [dataset.content(part.content)[1].digest[1] for part in dataset.split(split).images]
    stored_channels = min(channels, dataset.shape[0])
    return _checksum(content=digests, size=size, channels=stored_channels, preparation=PREPARATION)


def _load_published(
    dataset: Dataset, split_name: str, size: int, channels: int, folder: Path, workers: int
) -> ImageSet:
    split = dataset.split(split_name)
    stored_channels = min(channels, dataset.shape[0])
    checksum = images_checksum(dataset, split.name, size, channels)
    shape = (split.count, stored_channels, size, size)
    path = prepared_path(folder, dataset.name, split.name, shape, checksum)

    def make_blocks() -> Iterator[ImageArray]:
        copies = obtain(dataset, [part.content for part in split.images], folder)
        logger.info(f"{dataset.name} {split.name}: preparing {split.count:,} images at {size} x {size}")
        blocks = read_images(dataset, split, partial(open_content, dataset, copies))
        return ordered_map(lambda block: prepare_block(block, size, stored_channels), blocks, workers)

    images = prepared_images(path, shape, make_blocks)
    logger.info(f"{dataset.name} {split.name}: {split.count:,} images from {path}")
    return ImageSet(dataset.name, split.name, images, checksum)


def _load_stacked(
    dataset: StackedDataset, split: str, size: int, channels: int, folder: Path, workers: int
) -> ImageSet:
    if channels != 3:
        raise ConfigError(
            f"nc = {channels}: {dataset.name} has three channels, one {dataset.source.name} image in each; use nc = 3"
        )
    triples = draw_triples(dataset, split)
    checksum = _checksum(
        content=images_checksum(dataset.source, split, size, 1),
        drawing=hashlib.sha256(triples.tobytes()).hexdigest(),
    )
    shape = (len(triples), 3, size, size)
    path = prepared_path(folder, dataset.name, split, shape, checksum)

    def make_blocks() -> Iterator[ImageArray]:
        gray = load_images(dataset.source, split=split, image_size=size, channels=1, data_dir=folder, workers=workers)
        logger.info(f"{dataset.name} {split}: stacking {len(triples):,} images at {size} x {size}")
        return stack(gray.images, triples)

    images = prepared_images(path, shape, make_blocks)
    logger.info(f"{dataset.name} {split}: {len(triples):,} images from {path}")
    return ImageSet(dataset.name, split, images, checksum)


def _load_collection(
    path: Path, size: int, channels: int, folder: Path, workers: int, labels: bool, skip_damaged: bool
) -> ImageSet:
    # A folder's name may contain a dot ("faces.v2"); a zip's ending is not part of its name.
    name = path.resolve().name if path.is_dir() else path.stem
    with open_collection(path) as collection:
        ignored = f"; {collection.ignored:,} other files ignored" if collection.ignored else ""
        logger.info(f"{path}: {len(collection.names):,} images{ignored}")
        quick_key = collection.quick_key()
        # A zip's key is made of its directory, which stays when damaged content is replaced.
        stamp = str(path.stat().st_mtime_ns) if path.is_file() else ""
        damaged_list = folder / "prepared" / f"damaged-{_checksum(key=quick_key, stamp=stamp)[:32]}.json"
        damaged = _damaged_images(collection, damaged_list, workers) if skip_damaged else {}
        if damaged:
            text = damaged_text(collection, damaged)
            if len(damaged) == len(collection.names):
                raise ExternalError(f"{text}; no image is left")
            collection.leave_out(damaged)
            logger.warning(f"{text}; they are left out")
        classes = None
        if labels:
            file_name = f"{safe_file_name(name)}-all-labels-{collection_key(collection)[:16]}.npz"
            read = partial(collection_classes, collection)
            classes = prepared_classes(folder / "prepared" / file_name, len(collection.names), read)
        content = _content_checksum(collection, folder)
        checksum = _checksum(content=content, size=size, channels=channels, preparation=PREPARATION)
        shape = (len(collection.names), channels, size, size)
        cache = prepared_path(folder, name, "all", shape, checksum)

        def make_blocks() -> Iterator[ImageArray]:
            logger.info(f"{path}: preparing {shape[0]:,} images at {size} x {size}")
            try:
                yield from decoded_images(collection, size, channels, workers)
            except DamagedImagesError as error:
                if damaged:
                    damaged_list.unlink(missing_ok=True)  # of another version of Pillow: the next call looks again
                else:
                    with locked(damaged_list):
                        _write_damaged_images(damaged_list, error.damaged)
                raise
            with open_collection(path) as reopened:
                if reopened.quick_key() != quick_key:
                    raise ExternalError(
                        f"{path}: files changed while being read; run again when nothing writes to the folder"
                    )

        images = prepared_images(cache, shape, make_blocks)
    logger.info(f"{path}: {shape[0]:,} images from {cache}")
    return _with_classes(ImageSet(name, "all", images, checksum, left_out=len(damaged)), classes)


def _damaged_images(collection: Collection, path: Path, workers: int) -> dict[int, str]:
    """Index of each damaged image file -> what is wrong; all are opened, unless the list at ``path`` is there."""
    count = len(collection.names)
    damaged = _read_damaged_images(path, count)
    if damaged is None:
        with locked(path):
            # Another process may have written it while this one waited.
            damaged = _read_damaged_images(path, count)
            if damaged is None:
                damaged = {}
                logger.info(f"{collection.path}: looking for damaged images")
                with progress_bar("looking for damaged images", count, unit="images") as advance:
                    try:
                        for _ in decoded_images(collection, 1, 3, workers):
                            advance(1)
                    except DamagedImagesError as error:
                        damaged = dict(error.damaged)
                _write_damaged_images(path, damaged)
    return damaged


def _read_damaged_images(path: Path, count: int) -> dict[int, str] | None:
    """The list of damaged images among ``count``; None if there is none, or it is itself damaged."""
    try:
        damaged = {int(index): str(problem) for index, problem in json.loads(read_file(path)).items()}
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return damaged if all(0 <= index < count for index in damaged) else None


def _write_damaged_images(path: Path, damaged: Mapping[int, str]) -> None:
    write_text(path, json.dumps(damaged) + "\n")


def _content_checksum(collection: Collection, folder: Path) -> str:
    """The collection's checksum; a folder's, which requires reading every file, is cached under its quick key."""
    quick_key = collection.quick_key()
    if collection.path.is_file():
        return quick_key
    cache = folder / "prepared" / f"folder-{quick_key[:32]}.sha256"
    try:
        checksum = read_file(cache, 64).decode("ascii")
    except (OSError, ValueError):
        checksum = ""
    if len(checksum) == 64 and set(checksum) <= set("0123456789abcdef"):
        return checksum
    logger.info(f"{collection.path}: computing its checksum")
    checksum = collection.checksum()
    with locked(cache), replace_file(cache) as file:
        file.write(checksum.encode("ascii"))
    return checksum
