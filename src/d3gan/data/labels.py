"""The classes of images: a folder's or zip's own, from dataset.json or from class folders, and their cache.

- ``dataset.json`` at the top, as StyleGAN's and EDM's tools write it, comes first: a class index, from 0, for every
  image, ``{"labels": [["a/1.png", 3], …]}``.
- Otherwise each folder is a class, in sorted order. Folders that all images share are passed over (a zip often has
  one around everything); the first folder below them is the image's class, and deeper ones belong to it. An image
  beside the class folders has no class, which is an error.
"""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from d3gan.arrays import open_arrays
from d3gan.data.files import disk_errors, locked, replace_file
from d3gan.data.folders import LABELS_FILE, Collection
from d3gan.data.published.readers import Labels
from d3gan.errors import ConfigError, ExternalError, first_line
from d3gan.image_files import MAX_FILE_BYTES

logger = logging.getLogger("d3gan")

MAX_CLASSES = 100_000
"""A larger class index counts as damage: a network has a row for each."""
_SHOWN = 8
"""Classes that the log line names."""


class Classes(NamedTuple):
    """The labels of images."""

    labels: Labels
    """(N,) int64, 0 .. classes - 1, in the images' order."""
    names: tuple[str, ...]
    """Of the classes."""


def collection_classes(collection: Collection) -> Classes:
    """The classes of a folder's or zip's images; says in one log line what they are.

    Raises:
        ConfigError: the images have no classes, or one alone.
        ExternalError: dataset.json is damaged, or leaves images out.
    """
    data = collection.labels_file()
    if data is not None:
        labels, unknown = _from_json(data, collection.names, f"{collection.path}: {LABELS_FILE}")
        names = tuple(str(label) for label in range(max(labels) + 1))
        source, rest = LABELS_FILE, f"; {unknown:,} of its entries name no image here" if unknown else ""
    else:
        folders = _from_folders(collection)
        names = tuple(sorted(set(folders)))
        numbers = {name: label for label, name in enumerate(names)}
        labels = [numbers[folder] for folder in folders]
        source, rest = "folder", "; deeper folders belong to their class"
    counts = Counter(labels)
    if len(counts) < 2:
        raise ConfigError(
            f"{collection.path}: all images are of one class; give images of at least two, or leave out --conditional"
        )
    shown = [f"{names[label]} ({counts[label]:,})" for label in range(len(names))[:_SHOWN]]
    shown += ["…"] if len(names) > _SHOWN else []
    logger.info(f"{collection.path}: {len(names):,} classes by {source}: {', '.join(shown)}{rest}")
    return Classes(np.array(labels, np.int64), names)


def _from_json(data: bytes, names: Sequence[str], where: str) -> tuple[list[int], int]:
    """The label of each image, and how many entries name no image."""
    again = "write it again with the tool that made it"
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ExternalError(f"{where}: cannot be read as JSON ({first_line(error)}); {again}") from error
    entries = document.get("labels") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ExternalError(
            f'{where}: holds no labels, expected {{"labels": [["a/1.png", 3], …]}}, a class index for each image; '
            "add them, or remove the file to take class folders"
        )
    found: dict[str, int] = {}
    for number, entry in enumerate(entries):
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
            raise ExternalError(f"{where}: entry {number} is {_short(entry)}, expected [path, class index]; {again}")
        name, label = entry
        if type(label) is not int or not 0 <= label < MAX_CLASSES:
            raise ExternalError(
                f"{where}: the label of {name} is {_short(label)}, expected a class index, a whole number from 0 to "
                f"{MAX_CLASSES - 1}; {again}"
            )
        if found.setdefault(name, label) != label:
            raise ExternalError(f"{where}: {name} has two labels, {found[name]} and {label}; {again}")
    missing = [name for name in names if name not in found]
    if missing:
        raise ExternalError(
            f"{where}: {len(missing):,} of {len(names):,} images have no label in it, such as {missing[0]}; add "
            "them, or remove those images"
        )
    return [found[name] for name in names], len(found.keys() - set(names))


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:40] + "…"


def _from_folders(collection: Collection) -> list[str]:
    """The class folder of each image."""
    folders = [PurePosixPath(name).parts[:-1] for name in collection.names]
    shared = 0
    while all(len(parts) > shared and parts[shared] == folders[0][shared] for parts in folders):
        shared += 1
    below = [parts[shared:] for parts in folders]
    if not any(below):
        raise ConfigError(
            f"{collection.path}: its images have no classes: there is neither {LABELS_FILE} nor a folder for each "
            "class; add one of them, or leave out --conditional"
        )
    for name, parts in zip(collection.names, below, strict=True):
        if not parts:
            raise ConfigError(
                f"{collection.path}: {name} is in no class folder, and other images are; move it into one, or leave "
                "out --conditional"
            )
    return [parts[0] for parts in below]


def collection_key(collection: Collection) -> str:
    """SHA-256 hex of all that decides the classes of a folder's or zip's images."""
    digest = hashlib.sha256()
    for name in collection.names:
        digest.update(os.fsencode(name) + b"\0")
    data = collection.labels_file()
    digest.update(b"folders" if data is None else hashlib.sha256(data).digest())
    return digest.hexdigest()


def prepared_classes(path: Path, count: int, read: Callable[[], Classes]) -> Classes:
    """The classes cached at ``path``, which lies beside the prepared images; reads and caches them the first time.

    Args:
        path: the cache file.
        count: of the images.
        read: gives the classes.

    Raises:
        ExternalError: the cache cannot be written; and what ``read`` raises.
    """
    classes = _cached(path, count)
    if classes is None:
        with locked(path):
            # Another process may have written it while this one waited.
            classes = _cached(path, count)
            if classes is None:
                classes = read()
                with replace_file(path) as file:
                    np.savez_compressed(file, labels=classes.labels, names=np.array(json.dumps(classes.names)))
    return classes


def _cached(path: Path, count: int) -> Classes | None:
    """The classes in an intact cache file; None if there is none, or it is damaged, which is logged."""
    if not path.exists():
        return None
    with disk_errors(path):
        try:
            with open_arrays(path) as arrays:
                labels = arrays.read("labels", 8 * count)
                names = tuple(map(str, json.loads(str(arrays.read("names", MAX_FILE_BYTES)))))
            if labels.dtype != np.int64 or labels.shape != (count,) or labels.min() < 0 or labels.max() >= len(names):
                raise ValueError(f"it does not hold {count} labels")
        except (ExternalError, ValueError, TypeError, RecursionError) as error:  # no zip; no such arrays; no names
            logger.info(f"{path}: is damaged ({first_line(error)}); reading the labels again")
            return None
    return Classes(labels, names)
