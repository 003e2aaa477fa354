"""``d3gan data verify``: checks every byte of a data set's files, whatever was checked when they were fetched."""

import logging
from functools import partial
from pathlib import Path

from d3gan.data.folders import open_collection, unreadable_images
from d3gan.data.locate import data_folder, resolve_dataset
from d3gan.data.published.catalog import Dataset, StackedDataset
from d3gan.data.published.contents import FileCopy, member_digests, open_content
from d3gan.data.published.readers import read_images, read_labels
from d3gan.data.published.sources import checksum_problem, find_copies
from d3gan.errors import ExternalError

logger = logging.getLogger("d3gan")

_NAMED = 5
"""Bad images that an error names; it counts the others."""


def verify(dataset: str | Path | Dataset | StackedDataset, *, data_dir: str | Path | None = None) -> None:
    """Hashes and parses every file of a published set, or opens every image of a folder or zip. Fetches nothing.

    Of stacked MNIST it checks MNIST, of which it is made.

    Args:
        dataset: As for `load_images`.
        data_dir: Folder of the data files; see `data_folder`.

    Raises:
        ConfigError: ``dataset`` names nothing.
        ExternalError: a file is missing or not as published, or an image cannot be read; says what to do.
    """
    source = resolve_dataset(dataset)
    if isinstance(source, StackedDataset):
        logger.info(f"{source.name}: is made from {source.source.name}")
        source = source.source
    if isinstance(source, Path):
        _verify_collection(source)
    else:
        _verify_published(source, data_folder(data_dir))


def _verify_published(dataset: Dataset, folder: Path) -> None:
    copies = {}
    for file in dataset.files:
        copy = _verified_copy(dataset, file.name, folder)
        copies.update({content.name: copy for content in file.contents})
    opener = partial(open_content, dataset, copies)
    for split in dataset.splits:
        count = 0
        for block in read_images(dataset, split, opener):
            count += len(block)
            if block.shape[1:] != dataset.shape:
                raise ExternalError(f"{dataset.name} {split.name}: images of shape {block.shape[1:]}")
        labels = read_labels(dataset, split, opener)
        if split.labels and len(labels) != count:
            raise ExternalError(f"{dataset.name} {split.name}: {count} images but {len(labels)} labels")
        shape = " x ".join(map(str, dataset.shape))
        label_range = f"labels 0 to {dataset.classes - 1}" if split.labels else "no labels"
        logger.info(f"{dataset.name} {split.name}: {count:,} images of {shape}, {label_range}")


def _verified_copy(dataset: Dataset, file_name: str, folder: Path) -> FileCopy:
    """The copy that training would use, after hashing it as a whole and content by content."""
    file = next(file for file in dataset.files if file.name == file_name)
    names = [content.name for content in file.contents]
    problems = []
    for copy in find_copies(dataset, file, names, folder):
        problem = checksum_problem(dataset, copy, names) or _packed_problem(copy)
        if problem is None:
            logger.info(f"{dataset.name}: {copy}, checksum correct")
            return copy
        logger.info(f"{dataset.name}: {problem}")
        problems.append(problem)
    remedy = f"fetch it with: d3gan data fetch {dataset.name}"
    if problems:
        raise ExternalError(f"{'; '.join(problems)}; {remedy}")
    raise ExternalError(f"{dataset.name}: {file.name} is not in {folder}; {remedy}")


def _packed_problem(copy: FileCopy) -> str | None:
    """Why the content of a .tar.gz is not what was published; None if every member is."""
    if not copy.packed or copy.file.packing != "tar.gz":
        return None
    expected = {content.name: content.digest for content in copy.file.contents}
    digests = member_digests(copy.path, {name: algorithm for name, (algorithm, _) in expected.items()})
    for name, (_, digest) in expected.items():
        if name not in digests:
            return f"{copy.path}: holds no file {name}"
        if digests[name] != digest:
            return f"{copy.path}: {name}: its checksum is {digests[name]}, expected {digest}"
    return None


def _verify_collection(path: Path) -> None:
    with open_collection(path) as collection:
        errors = [error for error in unreadable_images(collection, workers=2) if error]
        if errors:
            named = "\n".join(str(error) for error in errors[:_NAMED])
            more = f"\nand {len(errors) - _NAMED:,} more" if len(errors) > _NAMED else ""
            raise ExternalError(f"{named}{more}")
        ignored = f"; {collection.ignored:,} other files ignored" if collection.ignored else ""
        logger.info(f"{path}: {len(collection.names):,} images, all readable{ignored}")
