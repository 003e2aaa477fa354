"""The statistics of the real images that a generator is measured against, computed once and cached.

A reference is stored as an .npz with ``mu`` (D,) and ``sigma`` (D, D), float64, as FID programs exchange them; ours
also holds the features of up to 10,000 of the images, which KID and precision/recall need.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3gan.arrays import Arrays, open_arrays
from d3gan.data.files import LOCK_SECONDS, safe_file_name, try_lock
from d3gan.data.locate import data_folder
from d3gan.distributed.group import Group
from d3gan.errors import ConfigError, ExternalError, first_line
from d3gan.evaluation.extractors.base import Extractor
from d3gan.evaluation.feature_statistics import MAX_SAMPLED_FEATURES, FeatureStatistics, collect_statistics
from d3gan.evaluation.metrics.features import UnusableFeaturesError
from d3gan.evaluation.metrics.fid import Gaussian
from d3gan.evaluation.real_images import IMAGES_KEY, ImageFinder, RealImages
from d3gan.files import disk_errors, kind_of, replace_file, user_path
from d3gan.progress_bar import progress_bar

logger = logging.getLogger("d3gan")

FORMAT = 1


@dataclass
class Reference:
    """Statistics of real images."""

    name: str
    """As it appears in the names of metrics: train, test, or the name of a folder or file."""
    description: str
    """Which images, how many, at what size."""
    count: int | None
    """Number of images; None where another program's file does not say it."""
    gaussian: Gaussian
    """Mean and covariance of the features; its factor is computed once, for all comparisons."""
    sampled_features: Tensor | None
    """(M, D) float32: features of up to 10,000 images chosen at random; None in another program's file."""
    extractor: str = ""
    """Identity of the extractor; empty where another program's file does not say it."""


def find_reference(spec: str, extractor: Extractor, group: Group, finder: ImageFinder) -> Reference | None:
    """Finds the reference that a user names: an .npz of statistics, or images that ``ImageFinder`` finds.

    All processes of the group must call it.

    Returns:
        The reference on rank 0, None elsewhere.

    Raises:
        ConfigError: nothing has that name, or the statistics are another extractor's.
        ExternalError: images or statistics are not available.
    """
    with group.raise_on_all_ranks():
        if spec.lower().endswith(".npz") and not holds_images(path := user_path(spec)):
            return read_reference(path, extractor)
        images = finder.open(spec, "reference")
    return _reference_of(images, extractor, group, finder)


def _reference_of(images: RealImages, extractor: Extractor, group: Group, finder: ImageFinder) -> Reference | None:
    """Statistics of all of some real images, from the cache or computed now by all processes of the group."""
    # The cache's name identifies the pixels and the extractor.
    key = json.dumps([FORMAT, images.image_set.checksum, extractor.identity])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    name, split = safe_file_name(images.image_set.name), images.image_set.split
    size = images.image_set.images.shape[2]
    path = data_folder(finder.data_dir) / "references" / f"{name}-{split}-{size}-{extractor.name}-{digest}.npz"
    reference = _read_cache(path, images, extractor) if group.is_main else None
    if group.broadcast(reference is not None):
        return reference
    with _locked(path, images, group):
        reference = _read_cache(path, images, extractor) if group.is_main else None
        if group.broadcast(reference is not None):  # another run has computed it meanwhile
            return reference
        logger.info(f"{images.description}: computing features ({extractor.name}), once")
        with progress_bar("features of the reference", len(images), unit="images") as advance:
            statistics = collect_statistics(
                images.source(), len(images), extractor, group, score=False, advance=advance
            )
        with group.raise_on_all_ranks():
            if statistics is not None:
                reference = reference_from(statistics, images.name, images.description, extractor)
                write_reference(reference, path)
    return reference


@contextmanager
def _locked(path: Path, images: RealImages, group: Group) -> Iterator[None]:
    """Holds the lock of a cached reference, so that only one of several runs that start together computes it.

    Rank 0 takes the lock. All processes of the group wait together, so that none of them seems to hang.
    """
    lock, waiting = None, False
    while True:
        with group.raise_on_all_ranks():
            lock = try_lock(path) if group.is_main else None
        if group.broadcast(lock is not None):
            break
        if not waiting:
            logger.info(f"{images.description}: another process is computing their features; waiting for it")
            waiting = True
        time.sleep(LOCK_SECONDS)
        group.heartbeat("waiting for another run's features of real images")
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def reference_from(statistics: FeatureStatistics, name: str, description: str, extractor: Extractor) -> Reference:
    """Makes statistics of real images a reference."""
    moments, sampled_features = statistics.moments, statistics.sampled_features
    return Reference(name, description, moments.count, moments.gaussian(), sampled_features, extractor.identity)


def _read_cache(path: Path, images: RealImages, extractor: Extractor) -> Reference | None:
    """Reads cached statistics; None if there are none, or they are damaged, which is logged."""
    if not kind_of(path):
        return None
    try:
        reference = read_reference(path, extractor)
    except (ExternalError, ConfigError) as error:
        logger.info(f"{error}; computing it again")
        return None
    # The cache is found by content: images of the same content may have another name.
    reference.name, reference.description = images.name, images.description
    return reference


def write_reference(reference: Reference, path: Path) -> None:
    """Writes ``mu`` and ``sigma``, and the features and description if the reference has them.

    Raises:
        ExternalError: the file cannot be written.
    """
    about = {"format": FORMAT, "description": reference.description, "extractor": reference.extractor}
    arrays: dict[str, Any] = {
        "mu": reference.gaussian.mean.numpy(),
        "sigma": reference.gaussian.covariance.numpy(),
        "d3gan": np.array(json.dumps(about | {"count": reference.count})),
    }
    if reference.sampled_features is not None:
        arrays["features"] = reference.sampled_features.numpy()
    with replace_file(path) as file:
        np.savez(file, **arrays)


def read_reference(path: Path, extractor: Extractor) -> Reference:
    """Reads statistics, ours or another program's; runs no code in the file.

    Raises:
        ConfigError: there is no such file, or its features are another extractor's.
        ExternalError: the file cannot be read, or holds no such statistics.
    """
    if not kind_of(path):
        raise ConfigError(f"{path}: no such file")
    try:
        with disk_errors(path), open_arrays(path) as arrays:
            about = _about(arrays)
            made_with = about.get("extractor", extractor.identity)
            if made_with != extractor.identity:
                raise ConfigError(
                    f"{path}: was made with {made_with}, but the features here are {extractor.identity}"
                )
            size = _fitting_size(arrays)
            if size != extractor.feature_size:
                raise ConfigError(f"{path}: has {size} features, {extractor.name} gives {extractor.feature_size}")
            mean, covariance = (_numbers(arrays, key, 16 * size**2) for key in ("mu", "sigma"))
            features = None
            if about and "features" in arrays:
                if arrays.header("features")[0][1:] != (size,):
                    raise ValueError("features are not of shape (M, D)")
                features = _numbers(arrays, "features", 8 * size * MAX_SAMPLED_FEATURES).float()
        gaussian = Gaussian(mean, covariance)
        if not about:  # another program's: what makes it no covariance is told with the file's name
            _ = gaussian.factor
    except (ValueError, UnusableFeaturesError) as error:
        raise ExternalError(
            f"{path}: holds no usable statistics, mu (D,) and sigma (D, D) ({first_line(error)})"
        ) from error
    description = str(about.get("description", path.name))
    return Reference(path.stem, description, about.get("count"), gaussian, features, about.get("extractor", ""))


def holds_images(path: Path) -> bool:
    """Whether an .npz holds images, as `d3gan sample --npz` writes them, and no statistics."""
    if not kind_of(path):
        return False
    with disk_errors(path), open_arrays(path) as arrays:
        return IMAGES_KEY in arrays and "mu" not in arrays


def _about(arrays: Arrays) -> dict[str, Any]:
    """Our own entry; empty in another program's file.

    Raises:
        ValueError: it is none of ours.
    """
    if "d3gan" not in arrays:
        return {}
    try:
        about = json.loads(str(arrays.read("d3gan", 1 << 16)))
    except RecursionError as error:
        raise ValueError("its entry d3gan is nested too deeply") from error
    count = about.get("count") if isinstance(about, dict) else 0
    if not (count is None or (type(count) is int and count > 0)):
        raise ValueError(f"its entry d3gan is another program's (count {count!r:.20})")
    if not all(isinstance(about.get(key, ""), str) for key in ("description", "extractor")):
        raise ValueError("its entry d3gan is another program's")
    return dict(about)


def _fitting_size(arrays: Arrays) -> int:
    """D of mu (D,) and sigma (D, D), as their headers say."""
    (mean, _), (covariance, dtype) = (arrays.header(key) for key in ("mu", "sigma"))
    if len(mean) != 1 or covariance != mean * 2:
        raise ValueError("mu and sigma are not finite numbers of shapes (D,) and (D, D)")
    if dtype == np.float16:
        raise ValueError("sigma is float16, whose 3 digits make no covariance; save it as float64")
    return mean[0]


def _numbers(arrays: Arrays, key: str, limit: int) -> Tensor:
    """An array as float64, finite."""
    array = arrays.read(key, limit)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{key} is {array.dtype!s:.20}, not numbers")
    tensor = torch.from_numpy(array.astype(np.float64))
    if not tensor.isfinite().all():
        raise ValueError(f"{key}: not finite numbers")
    return tensor
