"""Tiny data sets written in the published formats, and what a test does with them in another process."""

import gzip
import hashlib
import io
import logging
import struct
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from d3gan.data.load import load_images
from d3gan.data.published.catalog import Content, Dataset, Format, OfficialFile, Part, Split
from d3gan.errors import ExternalError
from tests.conftest import Kept

FORMATS: tuple[Format, ...] = ("idx", "cifar", "svhn", "stl")
COUNT = 6


@dataclass(frozen=True)
class Published:
    """A data set of one split called train: its description, its files, and what they must read as."""

    dataset: Dataset
    files: dict[str, bytes]
    contents: dict[str, bytes]
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def put(self, folder: Path) -> None:
        """Writes the files as published."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)

    def put_unpacked(self, folder: Path) -> None:
        for name, data in self.contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    return struct.pack(f">I{array.ndim}I", 0x0800 | array.ndim, *array.shape) + array.tobytes()


def python2_pickle(value: object) -> bytes:
    """What Python 2's cPickle wrote at protocol 2, instruction by instruction."""
    return b"\x80\x02" + _instructions(value) + b"."


def _instructions(value: object) -> bytes:
    if isinstance(value, dict):
        pairs = b"".join(_instructions(k) + _instructions(v) for k, v in value.items())
        return b"}q\x01(" + pairs + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_instructions, value)) + b"e"
    if isinstance(value, bytes):
        return (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))) + value
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    assert isinstance(value, np.ndarray)
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(_instructions(n) for n in value.shape) + b"t"
    return array + b"(K\x01" + shape + dtype + b"\x89" + _instructions(value.tobytes()) + b"tb"


def cifar_batch(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> bytes:
    batch = {
        b"batch_label": b"training batch 1 of 1",
        b"labels": labels.tolist(),
        b"data": images.reshape(len(images), -1),
        b"filenames": [b"leptodactylus_pentadactylus_s_000004.png"] * len(images),
    }
    return python2_pickle(batch)


def svhn_mat(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> bytes:
    from scipy.io import savemat

    file = io.BytesIO()
    digits = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    savemat(file, {"X": images.transpose(2, 3, 1, 0), "y": digits}, do_compression=True)
    return file.getvalue()


def stl_bytes(images: npt.NDArray[np.uint8]) -> bytes:
    return images.transpose(0, 1, 3, 2).tobytes()


def tar_gz(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return file.getvalue()


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def publish(kind: Format, **fields: Any) -> Published:
    """A data set of `COUNT` random images in the format ``kind``; ``fields`` are put into its description."""
    shape = {"idx": (1, 28, 28), "cifar": (3, 32, 32), "svhn": (3, 32, 32), "stl": (3, 96, 96)}[kind]
    random = np.random.default_rng(7)
    images = random.integers(0, 256, (COUNT, *shape), np.uint8)
    labels = np.array([0, 9, 1, 2, 3, 0], np.int64)
    if kind == "idx":
        contents = {"tiny-images": idx(images[:, 0]), "tiny-labels": idx(labels.astype(np.uint8))}
        files = {f"{name}.gz": gzip.compress(data) for name, data in contents.items()}
    elif kind == "cifar":
        contents = {
            "tiny-py/batch_1": cifar_batch(images[:4], labels[:4]),
            "tiny-py/batch_2": cifar_batch(images[4:], labels[4:]),
        }
        # The archives keep no order, and hold more than batches.
        files = {"tiny.tar.gz": tar_gz({"tiny-py/readme.html": b"", **dict(reversed(contents.items()))})}
    elif kind == "svhn":
        contents = {"tiny.mat": svhn_mat(images, labels)}
        files = dict(contents)
    else:
        contents = {"tiny_X.bin": stl_bytes(images), "tiny_y.bin": (labels + 1).astype(np.uint8).tobytes()}
        files = {"tiny.tar.gz": tar_gz(contents)}
    dataset = Dataset(
        name=f"tiny-{kind}",
        format=kind,
        shape=shape,
        classes=10,
        label_key="labels",
        files=tuple(_official(name, data, contents) for name, data in files.items()),
        splits=(_split(kind, list(contents)),),
        **{"mirrors": (), **fields},
    )
    return Published(dataset, files, contents, images, labels)


def _official(name: str, data: bytes, contents: dict[str, bytes]) -> OfficialFile:
    if name.endswith(".tar.gz"):
        held = tuple(Content(member, md5=md5(content)) for member, content in contents.items())
    else:
        plain = name.removesuffix(".gz")
        held = (Content(plain, sha256=sha256(contents[plain])),)
    return OfficialFile(name, len(data), held, md5=md5(data))


def _split(kind: Format, names: list[str]) -> Split:
    if kind == "cifar":
        parts = (Part(names[0], 4), Part(names[1], COUNT - 4))
        return Split("train", images=parts, labels=parts)
    return Split("train", images=(Part(names[0], COUNT),), labels=(Part(names[-1], COUNT),))


def load_and_say(dataset: Dataset, folder: Path, said: Any) -> None:
    """Loads in this process and puts (pixels' sum, lines reported) or the error's text on the queue ``said``."""
    handler = Kept()
    logging.getLogger("d3gan").setLevel(logging.INFO)
    logging.getLogger("d3gan").addHandler(handler)
    try:
        images = load_images(dataset, image_size=32, data_dir=folder).images
        said.put((int(images.sum(dtype=np.int64)), handler.lines))
    except ExternalError as error:
        said.put((str(error), handler.lines))
