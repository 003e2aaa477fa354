"""Which data set or folder a name means, and where data files are. Imports no NumPy: ``d3gan data list`` uses it."""

import os
from pathlib import Path

import platformdirs

from d3gan.config.datasets import POINT_SETS
from d3gan.data.published.catalog import Dataset, StackedDataset, dataset_names, find_dataset
from d3gan.errors import ConfigError, nearest
from d3gan.files import kind_of, user_path


def data_folder(data_dir: str | Path | None = None) -> Path:
    """The folder of data files: ``data_dir``, else $D3GAN_DATA, else the user's cache folder for d3gan.

    Raises:
        ConfigError: the user has no home folder, and none is named.
    """
    folder = str(data_dir) if data_dir is not None else os.environ.get("D3GAN_DATA", "")
    if folder:
        return user_path(folder)
    try:
        return user_path(platformdirs.user_cache_dir("d3gan", appauthor=False))
    except (ConfigError, RuntimeError) as error:
        raise ConfigError(
            "this user has no home folder: name a folder for data with --data-dir or $D3GAN_DATA"
        ) from error


def resolve_dataset(dataset: str | Path | Dataset | StackedDataset) -> Dataset | StackedDataset | Path:
    """The published or stacked set, or the folder or zip, that ``dataset`` names; a set's name wins over a folder's.

    Raises:
        ConfigError: it names neither, or a set of points, which has no files; the message lists the allowed names,
            and the nearest one.
    """
    if isinstance(dataset, Dataset | StackedDataset):
        return dataset
    published = find_dataset(dataset) if isinstance(dataset, str) else None
    if published:
        return published
    if dataset in POINT_SETS:
        raise ConfigError(f"dataset = {dataset}: its points are computed; there are no files to fetch, check or read")
    path = user_path(dataset)
    kind = kind_of(path)
    if kind == "a folder" or (kind == "a file" and path.suffix.lower() == ".zip"):
        return path
    problem = {"a file": "a file, but no .zip", "": "neither a known name nor an existing path"}.get(kind, kind)
    names = (*dataset_names(), *POINT_SETS)
    raise ConfigError(
        f"dataset = {dataset}: is {problem}{nearest(str(dataset).lower(), names)}; allowed: {', '.join(names)}, "
        "or the path of a folder or .zip of PNG, JPEG or WebP images"
    )
