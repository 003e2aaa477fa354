"""A sample of the fuzzing of `make soak`, and two properties: arbitrary bytes and arbitrary JSON in every reader."""

import json
import logging
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.soak.readers import Reader, feed, mutated, readers

READERS = readers()
ANSWERS = ("read", "refused")
SLOW = {"scaling.json": 6}  # it draws

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["format", "architecture", "facts", "seed", "sha256", "accuracy", "count", "points", "x"]
            ),
            inner,
        )
    ),
    max_leaves=10,
)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "d3gan")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused_by_name(name: str, tmp_path: Path) -> None:
    for number in range(SLOW.get(name, 25)):
        content = mutated(READERS[name], np.random.default_rng([99, zlib.crc32(name.encode()), number]))
        answer = feed(READERS[name], content, tmp_path)
        assert answer in ANSWERS, f"{name}, seed 99, number {number}: {answer}"


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_arbitrary_bytes_are_read_or_refused_by_name(name: str, tmp_path: Path, content: bytes) -> None:
    assert feed(READERS[name], content, tmp_path) in ANSWERS


def holding(reader: Reader, value: Any) -> bytes:
    """The reader's file with a JSON value where it has JSON."""
    text = json.dumps(value)
    if not reader.file_name.endswith(".safetensors"):
        return text.encode()
    content = reader.samples[0]
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["d3gan"] = text
    packed = json.dumps(header).encode()
    return struct.pack("<Q", len(packed)) + packed + content[8 + length :]


@pytest.mark.parametrize("name", ["generator", "facts", "digit classifier", "scaling.json"])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=json_values)
def test_arbitrary_json_is_read_or_refused_by_name(name: str, tmp_path: Path, value: Any) -> None:
    assert feed(READERS[name], holding(READERS[name], value), tmp_path) in ANSWERS


def test_the_sound_files_are_read(tmp_path: Path) -> None:
    for name, reader in READERS.items():
        for sample in reader.samples:
            assert feed(reader, sample, tmp_path / name) == "read", name


def test_a_finding_is_one(tmp_path: Path) -> None:
    def broken(_path: Path) -> None:
        raise AssertionError("unexpected")

    assert "unexpected" in feed(Reader("x", [b""], broken), b"", tmp_path)
