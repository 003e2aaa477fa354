"""The real images that a generator is measured against: their statistics, computed once and kept.

A reference is kept as an .npz with ``mu`` (D,) and ``sigma`` (D, D), float64, as FID programs exchange them; ours
holds the features of up to 10,000 of the images as well, which KID and precision/recall need.
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

from d3gan.data.files import LOCK_SECONDS, try_lock
from d3gan.data.load import data_folder
from d3gan.distributed.group import Group
from d3gan.errors import ConfigError, ExternalError
from d3gan.evaluation.extractors.base import Extractor
from d3gan.evaluation.feature_statistics import Collected, collect
from d3gan.evaluation.metrics.fid import Gaussian
from d3gan.evaluation.real_images import ImageFinder, Images
from d3gan.files import disk_errors, replace_file
from d3gan.progress_bar import progress_bar

logger = logging.getLogger("d3gan")

FORMAT = 1


@dataclass
class Reference:
    """Statistics of real images."""

    name: str
    """As it appears in the names of figures: train, test, or what a folder or file is called."""
    described: str
    """In words: which images, how many, at what size."""
    count: int | None
    """Number of images; None where a file of another program does not say it."""
    gaussian: Gaussian
    """Mean and covariance of the features; its factor is computed once, however often it is compared with."""
    kept: Tensor | None
    """(M, D) float32: features of up to 10,000 images; None in a file of another program."""
    extractor: str = ""
    """Identity of the extractor; empty where a file of another program does not say it."""


def find_reference(spec: str, extractor: Extractor, group: Group, finder: ImageFinder) -> Reference | None:
    """The reference that a user means: an .npz of statistics, or images as ``ImageFinder`` finds them.

    All processes of the group must call it.

    Returns:
        The reference on rank 0, None elsewhere.

    Raises:
        ConfigError: nothing of that name, or statistics of another extractor.
        ExternalError: images or statistics cannot be had.
    """
    with group.raise_on_all_ranks():
        if spec.lower().endswith(".npz"):
            return read_reference(Path(spec).expanduser(), extractor)
        images = finder.open(spec, "reference")
    return _reference_of(images, extractor, group, finder)


def _reference_of(images: Images, extractor: Extractor, group: Group, finder: ImageFinder) -> Reference | None:
    """Statistics of real images, all of them, from the cache or computed now by all processes of the group."""
    path = _cache_path(images, extractor, finder.data_dir)
    known = _known(path, images, extractor) if group.is_main else None
    if group.broadcast(known is not None):
        return known
    with _locked(path, images, group):
        known = _known(path, images, extractor) if group.is_main else None
        if group.broadcast(known is not None):  # another run has computed it meanwhile
            return known
        logger.info(f"{images.described}: computing features ({extractor.name}), once")
        with progress_bar("features of real images", len(images), unit="images") as advance:
            collected = collect(images.source(), len(images), extractor, group, score=False, advance=advance)
        reference = None
        with group.raise_on_all_ranks():
            if collected is not None:
                reference = reference_from(collected, images.name, images.described, extractor)
                write_reference(reference, path)
    return reference


@contextmanager
def _locked(path: Path, images: Images, group: Group) -> Iterator[None]:
    """Holds the lock of a cached reference, so that of several runs that start together one computes it.

    Rank 0 takes it. All processes of the group wait together, so that none is thought to hang.
    """
    lock, told = None, False
    while True:
        with group.raise_on_all_ranks():
            lock = try_lock(path) if group.is_main else None
        if group.broadcast(lock is not None):
            break
        if not told:
            logger.info(f"{images.described}: another process is computing their features; waiting for it")
            told = True
        time.sleep(LOCK_SECONDS)
        group.heartbeat("waiting for another run's features of real images")
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def reference_from(collected: Collected, name: str, described: str, extractor: Extractor) -> Reference:
    """What was collected of real images, as a reference."""
    moments = collected.moments
    return Reference(name, described, moments.count, moments.gaussian(), collected.kept, extractor.identity)


def _cache_path(images: Images, extractor: Extractor, data_dir: str | None) -> Path:
    """Where the statistics of these pixels by this extractor are kept; the name identifies both."""
    key = json.dumps([FORMAT, images.image_set.checksum, extractor.identity])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in images.image_set.name)[:40]
    name = f"{safe}-{images.image_set.split}-{images.image_set.images.shape[2]}-{extractor.name}-{digest}.npz"
    return data_folder(data_dir) / "references" / name


def _known(path: Path, images: Images, extractor: Extractor) -> Reference | None:
    """The cached statistics; None where there are none, or damaged ones, which are reported."""
    if not path.exists():
        return None
    try:
        found = read_reference(path, extractor)
    except (ExternalError, ConfigError) as error:
        logger.info(f"{error}; computing it again")
        return None
    # The cache is found by content: other images of the same content may be called otherwise.
    found.name, found.described = images.name, images.described
    return found


def write_reference(reference: Reference, path: Path) -> None:
    """Writes ``mu`` and ``sigma``, and what else of ours the reference has.

    Raises:
        ExternalError: the file cannot be written.
    """
    about = {"format": FORMAT, "described": reference.described, "extractor": reference.extractor}
    arrays: dict[str, Any] = {
        "mu": reference.gaussian.mean.numpy(),
        "sigma": reference.gaussian.covariance.numpy(),
        "d3gan": np.array(json.dumps(about | {"count": reference.count})),
    }
    if reference.kept is not None:
        arrays["features"] = reference.kept.numpy()
    with replace_file(path) as file:
        np.savez(file, **arrays)


def read_reference(path: Path, extractor: Extractor) -> Reference:
    """Reads statistics, ours or another program's; no code in the file is run.

    Raises:
        ConfigError: no such file, or its features are another extractor's.
        ExternalError: it cannot be read, or does not hold what it must.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        with disk_errors(path), path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            mean, covariance = (torch.from_numpy(np.asarray(file[key], np.float64)) for key in ("mu", "sigma"))
            about = json.loads(str(file["d3gan"])) if "d3gan" in file else {}
            own = about and "features" in file
            kept = torch.from_numpy(np.asarray(file["features"], np.float32)) if own else None
        size = len(mean)
        fits = mean.shape == (size,) and covariance.shape == (size, size) and (kept is None or kept.shape[1] == size)
        if not fits or not (mean.isfinite().all() and covariance.isfinite().all()):
            raise ValueError("mu and sigma are not finite numbers of shapes (D,) and (D, D)")
    except (KeyError, ValueError, TypeError, IndexError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        reason = str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__
        raise ExternalError(f"{path}: holds no usable statistics, mu (D,) and sigma (D, D) ({reason})") from error
    if about.get("extractor", extractor.identity) != extractor.identity:
        raise ConfigError(f"{path}: was made with {about['extractor']}, the features here are {extractor.identity}")
    if size != extractor.feature_size:
        raise ConfigError(f"{path}: has {size} features, {extractor.name} gives {extractor.feature_size}")
    described = str(about.get("described", path.name))
    gaussian = Gaussian(mean, covariance)
    return Reference(path.stem, described, about.get("count"), gaussian, kept, about.get("extractor", ""))
