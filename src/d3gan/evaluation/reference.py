"""The statistics of the real images that a generator is measured against, computed once and cached.

A reference is stored as an .npz with ``mu`` (D,) and ``sigma`` (D, D), float64, as FID programs exchange them; ours
also holds the features of up to 10,000 of the images, which KID and precision/recall need.
"""

import hashlib
import json
import logging
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3gan.data.files import LOCK_SECONDS, safe_file_name, try_lock
from d3gan.data.locate import data_folder
from d3gan.distributed.group import Group
from d3gan.errors import ConfigError, ExternalError, first_line
from d3gan.evaluation.extractors.base import Extractor
from d3gan.evaluation.feature_statistics import FeatureStatistics, collect_statistics
from d3gan.evaluation.metrics.fid import Gaussian
from d3gan.evaluation.real_images import ImageFinder, RealImages
from d3gan.files import disk_errors, replace_file, user_path
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
    """Finds the reference that a user names: an .npz of statistics, or images as ``ImageFinder`` finds them.

    All processes of the group must call it.

    Returns:
        The reference on rank 0, None elsewhere.

    Raises:
        ConfigError: nothing has that name, or the statistics are another extractor's.
        ExternalError: images or statistics are not available.
    """
    with group.raise_on_all_ranks():
        if spec.lower().endswith(".npz"):
            return read_reference(user_path(spec), extractor)
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
        with progress_bar("features of real images", len(images), unit="images") as advance:
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
    if not path.exists():
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
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        with disk_errors(path), path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            mean, covariance = (torch.from_numpy(np.asarray(file[key], np.float64)) for key in ("mu", "sigma"))
            about = json.loads(str(file["d3gan"])) if "d3gan" in file else {}
            features = None
            if about and "features" in file:
                features = torch.from_numpy(np.asarray(file["features"], np.float32))
        size = len(mean)
        fits = mean.shape == (size,) and covariance.shape == (size, size)
        fits = fits and (features is None or features.shape[1] == size)
        if not fits or not (mean.isfinite().all() and covariance.isfinite().all()):
            raise ValueError("mu and sigma are not finite numbers of shapes (D,) and (D, D)")
    except (KeyError, ValueError, TypeError, IndexError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ExternalError(
            f"{path}: holds no usable statistics, mu (D,) and sigma (D, D) ({first_line(error)})"
        ) from error
    if about.get("extractor", extractor.identity) != extractor.identity:
        raise ConfigError(
            f"{path}: was made with {about['extractor']}, but the features here are {extractor.identity}"
        )
    if size != extractor.feature_size:
        raise ConfigError(f"{path}: has {size} features, {extractor.name} gives {extractor.feature_size}")
    description = str(about.get("description", path.name))
    gaussian = Gaussian(mean, covariance)
    return Reference(path.stem, description, about.get("count"), gaussian, features, about.get("extractor", ""))
