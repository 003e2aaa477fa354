"""Arrays of .npz files: read as NumPy does, in no more memory than the file; any damage names the array."""

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d3gan.arrays import UnreadableArrayError, open_arrays
from d3gan.errors import ExternalError


@pytest.mark.parametrize("packed", [False, True])
def test_arrays_are_read_as_numpy_reads_them(packed: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "a": rng.normal(size=(300, 700)),
        "columns": np.asfortranarray(rng.normal(size=(5, 7)).astype(np.float32)),
        "text": np.array("words"),
        "empty": np.zeros((0, 3)),
        "scalar": np.float64(3),
        "big": rng.integers(0, 256, (50, 300, 100), np.uint8),
    }
    (np.savez_compressed if packed else np.savez)(tmp_path / "x.npz", **arrays)
    with open_arrays(tmp_path / "x.npz") as opened:
        assert "a" in opened
        assert "b" not in opened
        for name, array in arrays.items():
            read = opened.read(name, 1 << 22)
            assert opened.header(name) == (array.shape, array.dtype)
            np.testing.assert_array_equal(read, array)
        np.testing.assert_array_equal(np.concatenate(list(opened.blocks("big", 7))), arrays["big"])
        with pytest.raises(UnreadableArrayError, match="a: 1,680,000 bytes"):
            opened.read("a", 1000)
        with pytest.raises(UnreadableArrayError, match="b: there is no such array"):
            opened.read("b", 1000)


def with_header(path: Path, text: str, data: bytes = bytes(32)) -> None:
    header = text + " " * (63 - (10 + len(text)) % 64) + "\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + data)


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (" + "9" * 30 + ",), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-4,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (((((4,), }",
        "{'descr': '|S0', 'fortran_order': False, 'shape': (1000000000000,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (4,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 99999999999999999999999), }",
        "{'descr': [('a', '<f8', (99999999,))], 'fortran_order': False, 'shape': (4,), }",
        "(" * 9000,
        "-" * 9000 + "1",
        "x" * 20000,
    ],
)
def test_a_header_that_claims_too_much_takes_no_memory(text: str, tmp_path: Path) -> None:
    with_header(tmp_path / "x.npz", text)
    tracemalloc.start()
    try:
        with open_arrays(tmp_path / "x.npz") as opened, pytest.raises(UnreadableArrayError, match=r"^x: "):
            opened.read("x", 1 << 40)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_damage_is_the_right_numbers_or_an_error(tmp_path: Path) -> None:
    path, array, rng = tmp_path / "x.npz", np.arange(400.0), np.random.default_rng(1)
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, x=array)
        whole = file.getvalue()
        for _ in range(300):
            damaged = bytearray(whole)
            damaged[int(rng.integers(len(whole)))] ^= int(rng.integers(1, 256))
            cut = len(whole) if rng.random() < 0.8 else int(rng.integers(len(whole)))
            path.write_bytes(bytes(damaged[:cut]))
            try:
                with open_arrays(path) as opened:
                    read = opened.read("x", 1 << 20)
            except (UnreadableArrayError, ExternalError):
                continue
            np.testing.assert_array_equal(read, array)
