"""``d3gan data list`` and ``d3gan data fetch``. Imports neither torch nor NumPy, so that both start at once."""

import logging
from pathlib import Path

from d3gan.config.datasets import POINT_SETS, POINTS
from d3gan.data.locate import data_folder, resolve_dataset
from d3gan.data.published.catalog import DATASETS, STACKED_MNIST, Dataset, StackedDataset
from d3gan.data.published.sources import find_copies, obtain
from d3gan.errors import ConfigError

logger = logging.getLogger("d3gan")


def fetch(dataset: str | Path | Dataset | StackedDataset, *, data_dir: str | Path | None = None) -> Path:
    """Finds or downloads every official file of a published set, and logs the source of each.

    For stacked MNIST those of MNIST: it is made of them at first use, as other sets are prepared then.

    Returns:
        The folder that holds the files; if they are in several, the set's own folder inside the data folder.

    Raises:
        ConfigError: ``dataset`` is a path, or names nothing.
        ExternalError: a file is not available; lists what was tried, why each source failed, and what to put where.
    """
    source = resolve_dataset(dataset)
    if isinstance(source, Path):
        raise ConfigError(f"dataset = {dataset}: is a path, so there is nothing to fetch; check it with: data verify")
    if isinstance(source, StackedDataset):
        logger.info(f"{source.name}: is made from {source.source.name}")
        source = source.source
    folder = data_folder(data_dir)
    names = [content.name for file in source.files for content in file.contents]
    folders = {copy.folder for copy in obtain(source, names, folder).values()}
    return folders.pop() if len(folders) == 1 else folder / source.name


def catalog_lines(data_dir: str | Path | None = None) -> list[str]:
    """The table of data sets: name, images per split, shape, bytes to download, and where they are already.

    Presence is judged by file names; `verify` checks the contents.
    """
    folder = data_folder(data_dir)
    rows = [("name", "images", "shape", "download", "present")]
    sets: tuple[Dataset | StackedDataset, ...] = (*DATASETS, STACKED_MNIST)
    for dataset in sets:
        published = dataset.source if isinstance(dataset, StackedDataset) else dataset
        splits = ", ".join(f"{split.name} {split.count:,}" for split in dataset.splits)
        size = sum(file.size or 0 for file in published.files)
        download = f"{size / 1e6:,.0f} MB" if published is dataset else f"from {published.name}"
        locations = []
        for file in published.files:
            copies = find_copies(published, file, [content.name for content in file.contents], folder)
            locations += [str(copy.path.parent if copy.packed else copy.path) for copy in copies[:1]]
        present = ", ".join(dict.fromkeys(locations)) or "no"
        missing = len(published.files) - len(locations)
        if locations and missing:
            present += f" ({missing} of {len(published.files)} files missing)"
        name = " or ".join((dataset.name, *(dataset.aliases if isinstance(dataset, Dataset) else ())))
        shape = " x ".join(map(str, dataset.shape))
        rows.append((name, splits, shape, download, present))
    splits = ", ".join(f"{split} {count:,}" for split, count in POINTS.items())
    rows += [(name, splits, "2 numbers", "computed", "points in the plane") for name in POINT_SETS]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["  ".join((*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4])) for row in rows]
    return [*lines, f"data folder: {folder}", "or the path of any folder or .zip of PNG, JPEG or WebP images"]
