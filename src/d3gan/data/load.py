"""From a name or a path to images: resolve, fetch if need be, prepare once, map into memory."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from d3gan.data.files import locked, write_beside
from d3gan.data.published.catalog import Dataset, Split, dataset_names, find_dataset
from d3gan.errors import ConfigError, ExternalError, nearest

logger = logging.getLogger("d3gan")

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from d3gan.data.folders import Collection
    from d3gan.data.published.contents import ContentStream, Found


@dataclass(frozen=True)
class ImageSet:
    """The images of one split, ready for training.

    Attributes:
        name: ``mnist``, or the folder's or zip's name without ending.
        split: ``train``, ``test``, ``extra`` (SVHN), ``unlabeled`` (STL-10); ``all`` for folders and zips.
        images: Read-only memory map, (N, C, S, S) uint8, 0..255. C is 1 where the source is grey or 1 channel was
            asked for (colour then becomes ITU-R 601 luminance), else 3.
        checksum: SHA-256 hex of where these exact pixels come from: the source's content, the size, the number of
            channels and the version of the preparation. Equal for copies of the same files.
    """

    name: str
    split: str
    images: npt.NDArray[np.uint8] = field(repr=False)
    checksum: str


def data_folder(data_dir: str | Path | None = None) -> Path:
    """Where data files are kept: ``data_dir``, else $D3GAN_DATA, else the user's cache folder for d3gan."""
    chosen = str(data_dir) if data_dir is not None else os.environ.get("D3GAN_DATA", "")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("d3gan", appauthor=False))


def resolve(dataset: str | Path | Dataset) -> Dataset | Path:
    """The published set or the folder or zip that ``dataset`` names; a published name wins over a folder's.

    Raises:
        ConfigError: it names neither; the message says what does, the nearest name first.
    """
    if isinstance(dataset, Dataset):
        return dataset
    published = find_dataset(dataset) if isinstance(dataset, str) else None
    if published:
        return published
    path = Path(dataset).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix.lower() == ".zip"):
        return path
    what = "a file, but no .zip" if path.is_file() else "neither a known name nor a path that exists"
    names = dataset_names()
    raise ConfigError(
        f"dataset = {dataset}: is {what}{nearest(str(dataset).lower(), names)}; allowed: {', '.join(names)}, "
        "or the path of a folder or .zip of PNG, JPEG or WebP images"
    )


def load_images(
    dataset: str | Path | Dataset,
    *,
    split: str = "train",
    image_size: int = 32,
    channels: int = 3,
    data_dir: str | Path | None = None,
    workers: int = 2,
) -> ImageSet:
    """Gives the images of a data set, fetched and prepared the first time and memory-mapped ever after.

    Images are cropped to the middle square and resized bilinearly. Of a published set only the files that this
    split's images need are fetched, and once prepared the official files are not needed any more.

    Args:
        dataset: A published set's name (see `dataset_names`), a folder or .zip of images, or a description.
        split: Which split of a published set; folders and zips are taken whole.
        image_size: Height and width, in pixels.
        channels: 1 or 3. Grey published sets stay at 1 channel either way; colour folders become what is asked.
        data_dir: Where files are looked for and kept; see `data_folder`.
        workers: Threads that decode and resize.

    Raises:
        ConfigError: an unknown data set, split, size or number of channels.
        ExternalError: files cannot be had, read or written.
    """
    if channels not in (1, 3):
        raise ConfigError(f"nc = {channels}: images can have 1 or 3 channels")
    if image_size < 1:
        raise ConfigError(f"image_size = {image_size}: must be at least 1")
    source = resolve(dataset)
    folder = data_folder(data_dir)
    if isinstance(source, Path):
        return _load_collection(source, image_size, channels, folder, workers)
    wanted = _split_called(split, source)
    return _load_published(source, wanted, image_size, channels, folder, workers)


def _split_called(name: str, dataset: Dataset) -> Split:
    for split in dataset.splits:
        if split.name == name:
            return split
    raise ConfigError(f"split = {name}: {dataset.name} has {', '.join(split.name for split in dataset.splits)}")


def _checksum(**parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _load_published(
    dataset: Dataset,
    split: Split,
    size: int,
    channels: int,
    folder: Path,
    workers: int,
) -> ImageSet:
    from d3gan.data.prepared_cache import cache_file_name, prepared_images
    from d3gan.data.preprocess import PREPARATION, ordered_map, prepare_block
    from d3gan.data.published.readers import read_images
    from d3gan.data.published.sources import obtain

    stored_channels = min(channels, dataset.shape[0])
    digests = [dataset.content(part.content)[1].digest[1] for part in split.images]
    checksum = _checksum(content=digests, size=size, channels=stored_channels, preparation=PREPARATION)
    shape = (split.count, stored_channels, size, size)
    path = folder / "prepared" / cache_file_name(dataset.name, split.name, shape, checksum)

    def make_blocks() -> Iterator[npt.NDArray[np.uint8]]:
        names = [part.content for part in split.images]
        found = obtain(dataset, names, folder)
        logger.info(f"{dataset.name} {split.name}: preparing {split.count:,} images at {size} x {size}")
        blocks = read_images(dataset, split, content_opener(dataset, found))
        return ordered_map(lambda block: prepare_block(block, size, stored_channels), blocks, workers)

    images = prepared_images(path, shape, make_blocks)
    logger.info(f"{dataset.name} {split.name}: {split.count:,} images from {path}")
    return ImageSet(dataset.name, split.name, images, checksum)


def content_opener(
    dataset: Dataset, found: dict[str, Found]
) -> Callable[[str], AbstractContextManager[ContentStream]]:
    """A function that opens a content of ``dataset`` by name, from the copy in ``found``."""
    from d3gan.data.published.contents import open_content

    return lambda name: open_content(found[name], dataset.content(name)[1], dataset.name)


def _load_collection(path: Path, size: int, channels: int, folder: Path, workers: int) -> ImageSet:
    from d3gan.data.folders import decoded_images, open_collection
    from d3gan.data.prepared_cache import cache_file_name, prepared_images
    from d3gan.data.preprocess import PREPARATION

    # A folder's name may hold a dot ("faces.v2"); only a zip's ending is no part of its name.
    name = path.resolve().name if path.is_dir() else path.stem
    with open_collection(path) as collection:
        ignored = f"; {collection.ignored:,} other files ignored" if collection.ignored else ""
        logger.info(f"{path}: {len(collection.names):,} images{ignored}")
        before = collection.quick_key()
        content = _content_checksum(collection, folder)
        checksum = _checksum(content=content, size=size, channels=channels, preparation=PREPARATION)
        shape = (len(collection.names), channels, size, size)
        cached = folder / "prepared" / cache_file_name(name, "all", shape, checksum)

        def make_blocks() -> Iterator[npt.NDArray[np.uint8]]:
            logger.info(f"{path}: preparing {shape[0]:,} images at {size} x {size}")
            yield from decoded_images(collection, size, channels, workers)
            with open_collection(path) as again:
                if again.quick_key() != before:
                    raise ExternalError(f"{path}: changed while it was read; run it again once it is at rest")

        images = prepared_images(cached, shape, make_blocks)
    logger.info(f"{path}: {shape[0]:,} images from {cached}")
    return ImageSet(name, "all", images, checksum)


def _content_checksum(collection: Collection, folder: Path) -> str:
    """The collection's checksum; a folder's, which takes reading every file, is remembered by its quick key."""
    quick_key = collection.quick_key()
    if collection.path.is_file():
        return quick_key
    remembered = folder / "prepared" / f"folder-{quick_key[:32]}.sha256"
    try:
        known = remembered.read_text(encoding="ascii")
    except (OSError, ValueError):
        known = ""
    if len(known) == 64 and set(known) <= set("0123456789abcdef"):
        return known
    logger.info(f"{collection.path}: computing its checksum")
    checksum = collection.checksum()
    with locked(remembered), write_beside(remembered) as file:
        file.write(checksum.encode("ascii"))
    return checksum
