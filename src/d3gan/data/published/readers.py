"""Readers of the published file formats: blocks of uint8 images (N, C, H, W) and int64 labels (N,).

Every length is checked against the catalog before anything of that length is allocated, so that a damaged header
causes an error and no shortage of memory.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import assert_never

import numpy as np
import numpy.typing as npt

from d3gan.data.preprocess import ImageArray
from d3gan.data.published.catalog import Dataset, Part, Split
from d3gan.data.published.contents import ContentStream
from d3gan.data.published.pickled import PickledArray, PickledDtype, load_restricted
from d3gan.errors import ExternalError

Labels = npt.NDArray[np.int64]
Opener = Callable[[str], AbstractContextManager[ContentStream]]
"""Opens a content file by its name in the catalog."""

BLOCK = 500
"""Images read at a time: 14 MB of STL-10, 1.5 MB of CIFAR."""

# CIFAR's batches hold about 31 bytes per image in addition to the pixels (file name, labels); thirty times that is
# damage.
_CIFAR_SLACK = 1024
# Bytes of a CIFAR batch that do not depend on its number of images, generously.
_CIFAR_FIXED_SLACK = 1 << 16

_IDX_UNSIGNED_BYTES = 0x08


def read_images(dataset: Dataset, split: Split, open_content: Opener) -> Iterator[ImageArray]:
    """Reads the images of a split.

    Args:
        dataset: The data set.
        split: The split.
        open_content: Opens a content file of the data set.

    Yields:
        Blocks of uint8 images (n, C, H, W), 0..255, in the files' order.

    Raises:
        ExternalError: a file violates its format or differs from the catalog; names file, offset and expectation.
    """
    for part in split.images:
        with open_content(part.content) as stream:
            match dataset.format:
                case "idx":
                    yield from read_idx_images(stream, (part.count, *dataset.shape[1:]))
                case "cifar":
                    yield from _blocks(read_cifar(stream, part.count, dataset.label_key)[0])
                case "svhn":
                    yield from _blocks(read_svhn(stream, part.count)[0])
                case "stl":
                    yield from read_stl_images(stream, part.count, dataset.shape)
                case _:
                    assert_never(dataset.format)


def read_labels(dataset: Dataset, split: Split, open_content: Opener) -> Labels:
    """Reads the labels of a split: int64 (N,), 0 .. classes - 1; (0,) if the split has none.

    Raises:
        ExternalError: a file violates its format or differs from the catalog, or a label is out of range.
    """
    labels = [np.empty(0, np.int64)]
    for part in split.labels:
        with open_content(part.content) as stream:
            part_labels = _read_part_labels(dataset, part, stream)
            wrong = np.flatnonzero((part_labels < 0) | (part_labels >= dataset.classes))
            if wrong.size:
                first = int(wrong[0])
                problem = f"label {first} is {part_labels[first]}, expected 0 to {dataset.classes - 1}"
                raise ExternalError(f"{stream.name}: {problem}; {stream.remedy}")
        labels.append(part_labels)
    return np.concatenate(labels)


def _read_part_labels(dataset: Dataset, part: Part, stream: ContentStream) -> Labels:
    match dataset.format:
        case "idx":
            return read_idx_labels(stream, part.count)
        case "cifar":
            return read_cifar(stream, part.count, dataset.label_key)[1]
        case "svhn":
            return read_svhn(stream, part.count)[1]
        case "stl":
            return read_stl_labels(stream, part.count)
        case _:
            assert_never(dataset.format)


def _blocks(images: ImageArray) -> Iterator[ImageArray]:
    for start in range(0, len(images), BLOCK):
        yield np.ascontiguousarray(images[start : start + BLOCK])


def _read_raw_images(stream: ContentStream, count: int, shape: tuple[int, ...]) -> Iterator[ImageArray]:
    size = int(np.prod(shape))
    for start in range(0, count, BLOCK):
        n = min(BLOCK, count - start)
        data = stream.read_exactly(n * size, f"images {start} to {start + n - 1} of {count}")
        yield np.frombuffer(data, np.uint8).reshape(n, *shape)
    stream.expect_end()


def _read_idx_header(stream: ContentStream, shape: tuple[int, ...]) -> None:
    magic = _IDX_UNSIGNED_BYTES << 8 | len(shape)
    (actual,) = struct.unpack(">I", stream.read_exactly(4, "an IDX magic number"))
    if actual != magic:
        expected = f"magic 0x{magic:08x} (IDX, unsigned bytes, {len(shape)} dimensions)"
        raise stream.damaged(0, expected, f"0x{actual:08x}")
    sizes = struct.unpack(f">{len(shape)}I", stream.read_exactly(4 * len(shape), "IDX dimensions"))
    if sizes != shape:
        raise stream.damaged(4, f"dimensions {_by(shape)}", _by(sizes))


def _by(sizes: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in sizes)


def read_idx_images(stream: ContentStream, shape: tuple[int, ...]) -> Iterator[ImageArray]:
    """Reads an IDX file of grey images (LeCun's format of MNIST: big-endian header, then bytes).

    Args:
        stream: The unpacked file.
        shape: (N, H, W) that it must have.

    Yields:
        Blocks of uint8 images (n, 1, H, W).

    Raises:
        ExternalError: wrong magic number or dimensions, a file too short or too long.
    """
    _read_idx_header(stream, shape)
    yield from _read_raw_images(stream, shape[0], (1, *shape[1:]))


def read_idx_labels(stream: ContentStream, count: int) -> Labels:
    """Reads an IDX file of ``count`` labels: int64 (count,).

    Raises:
        ExternalError: wrong magic number or dimensions, a file too short or too long.
    """
    _read_idx_header(stream, (count,))
    return _read_raw_labels(stream, count)


def _read_raw_labels(stream: ContentStream, count: int) -> Labels:
    data = stream.read_exactly(count, f"{count} labels")
    stream.expect_end()
    return np.frombuffer(data, np.uint8).astype(np.int64)


def read_cifar(stream: ContentStream, count: int, label_key: str) -> tuple[ImageArray, Labels]:
    """Reads one batch of a CIFAR python archive, a pickled dict, without running a pickle's code.

    Args:
        stream: The batch file.
        count: Number of images that it must hold.
        label_key: ``labels`` in CIFAR-10, ``fine_labels`` in CIFAR-100.

    Returns:
        uint8 images (count, 3, 32, 32) and int64 labels (count,).

    Raises:
        ExternalError: the pickle needs anything but containers, numbers, strings and byte arrays (the message names
            it), or holds other images or labels than expected.
    """
    size = 3 * 32 * 32
    limit = count * (size + _CIFAR_SLACK) + _CIFAR_FIXED_SLACK
    data = stream.read_up_to(limit)
    if len(data) == limit:
        raise stream.damaged(limit, f"the end of a batch of {count} images", "more bytes")
    # A damaged pickle may raise nearly anything.
    try:
        batch = load_restricted(data)
    except Exception as error:
        raise stream.damaged(0, "a CIFAR batch (a pickled dict of arrays and lists)", str(error)) from error
    batch = batch if isinstance(batch, dict) else {}
    pixels, labels = batch.get(b"data"), batch.get(label_key.encode())
    raw = _pickled_pixels(pixels, (count, size))
    if raw is None:
        raise stream.damaged(0, f"'data' of {count} x {size} unsigned bytes", _describe(pixels))
    if not (isinstance(labels, list) and len(labels) == count and all(type(n) is int for n in labels)):
        raise stream.damaged(0, f"'{label_key}', a list of {count} whole numbers", _describe(labels))
    # A whole number may be longer than 64 bits; such a label is as wrong as a negative one.
    capped = [n if -1 <= n < 256 else -1 for n in labels]
    return np.frombuffer(raw, np.uint8).reshape(count, 3, 32, 32), np.array(capped, np.int64)


def _pickled_pixels(array: object, shape: tuple[int, int]) -> bytes | None:
    """The raw bytes of a pickled array, if it is row-major, of unsigned bytes and of this shape."""
    if not isinstance(array, PickledArray) or len(array.state) != 5:
        return None
    _, array_shape, dtype, column_major, raw = array.state
    as_expected = (
        array_shape == shape
        and isinstance(dtype, PickledDtype)
        and dtype.name in ("u1", "|u1")
        and not column_major
        and isinstance(raw, bytes)
        and len(raw) == shape[0] * shape[1]
    )
    return raw if as_expected else None


def _describe(value: object) -> str:
    if isinstance(value, PickledArray):
        shape, dtype = value.state[1:3] if len(value.state) == 5 else ("unknown", None)
        if not (isinstance(shape, tuple) and all(type(size) is int for size in shape)):
            shape = "unknown"
        return f"an array of shape {shape}, type {dtype.name if isinstance(dtype, PickledDtype) else 'unknown'}"
    if isinstance(value, list | bytes | str):
        return f"{type(value).__name__} of length {len(value)}"
    return "nothing" if value is None else type(value).__name__


def read_svhn(stream: ContentStream, count: int) -> tuple[ImageArray, Labels]:
    """Reads an SVHN cropped-digits file: MATLAB 5 with X (32, 32, 3, N) and y (N, 1).

    SciPy reads X whole: 1.6 GB for the extra split, 225 MB for train.

    Args:
        stream: The .mat file.
        count: Number of images that it must hold.

    Returns:
        uint8 images (count, 3, 32, 32), a view of X, and int64 labels (count,); the file's label 10 is digit 0.

    Raises:
        ExternalError: the file is damaged, or holds other variables.
    """
    from scipy.io import loadmat, whosmat  # slow to import, and only SVHN needs it

    expected = f"MATLAB variables X (32 x 32 x 3 x {count}, uint8) and y ({count} x 1)"
    # SciPy may raise nearly anything on a damaged .mat file.
    try:
        listed = whosmat(stream.raw)
        variables = {name: (shape, kind) for name, shape, kind in listed}
        if len(variables) < len(listed):  # loadmat would read all of them, of whatever shape and kind
            raise ValueError("two variables of one name")
    except Exception as error:
        raise stream.damaged(0, expected, f"what SciPy cannot read ({error})") from error
    if variables.get("X") != ((32, 32, 3, count), "uint8") or variables.get("y", ((), ""))[0] != (count, 1):
        actual = ", ".join(f"{name} {_by(shape)} {kind}" for name, (shape, kind) in variables.items())
        raise stream.damaged(0, expected, actual or "nothing")
    try:
        stream.raw.seek(0)
        arrays = loadmat(stream.raw, variable_names=("X", "y"))
        images = np.asarray(arrays["X"])
        labels = np.asarray(arrays["y"]).reshape(-1).astype(np.int64)
    except Exception as error:
        raise stream.damaged(0, expected, f"what SciPy cannot read ({error})") from error
    if images.shape != (32, 32, 3, count) or images.dtype != np.uint8 or len(labels) != count:
        raise stream.damaged(0, expected, f"X {_by(images.shape)} {images.dtype}, y {len(labels)}")
    labels[labels == 10] = 0
    return images.transpose(3, 2, 0, 1), labels


def read_stl_images(
    stream: ContentStream, count: int, shape: tuple[int, int, int] = (3, 96, 96)
) -> Iterator[ImageArray]:
    """Reads an STL-10 image file: bytes alone, each channel of each image stored column by column.

    Args:
        stream: The unpacked file.
        count: Number of images that it must hold.
        shape: (C, H, W) of an image.

    Yields:
        Blocks of uint8 images (n, C, H, W).

    Raises:
        ExternalError: the file is too short or too long.
    """
    channels, height, width = shape
    for columns in _read_raw_images(stream, count, (channels, width, height)):
        yield np.ascontiguousarray(columns.transpose(0, 1, 3, 2))


def read_stl_labels(stream: ContentStream, count: int) -> Labels:
    """Reads an STL-10 label file, bytes 1 .. 10: int64 (count,), 0 .. 9.

    Raises:
        ExternalError: the file is too short or too long.
    """
    return _read_raw_labels(stream, count) - 1
