"""Each reader on files built in the published format, and on damaged copies of them."""

import gzip
import io
import os
import pickle
import struct
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d3gan.data.load import load_images
from d3gan.data.published.catalog import Format
from d3gan.data.published.contents import ContentStream
from d3gan.data.published.readers import read_cifar, read_idx_images, read_images, read_labels, read_svhn
from d3gan.data.published.verify import verify
from d3gan.errors import ExternalError
from tests.data.published.formats import COUNT, FORMATS, Published, cifar_batch, idx, publish, python2_pickle

PUBLISHED = {kind: publish(kind) for kind in FORMATS}

damage = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 0.9999), st.just(b"")),
    st.tuples(st.just("flip"), st.floats(0, 0.9999), st.binary(min_size=1, max_size=4).filter(any)),
    st.tuples(st.just("extend"), st.just(0.0), st.binary(min_size=1, max_size=64)),
    # Headers are a small part of a file; aim at them.
    st.tuples(st.just("flip"), st.floats(0, 0.01), st.binary(min_size=1, max_size=8).filter(any)),
)


def damaged(data: bytes, how: tuple[str, float, bytes]) -> bytes:
    kind, where, what = how
    at = int(where * len(data))
    if kind == "cut":
        return data[:at]
    if kind == "extend":
        return data + what
    flipped = bytearray(data)
    for i, bits in enumerate(what[: len(data) - at]):
        flipped[at + i] ^= bits
    return bytes(flipped)


def stream_of(data: bytes, name: str = "the-file") -> ContentStream:
    return ContentStream(io.BytesIO(data), name, "fetch it again")


def read_all(published: Published, contents: dict[str, bytes]) -> npt.NDArray[np.uint8]:
    def opener(name: str) -> AbstractContextManager[ContentStream]:
        return nullcontext(stream_of(contents[name], name))

    dataset = published.dataset
    read_labels(dataset, dataset.splits[0], opener)
    return np.concatenate(list(read_images(dataset, dataset.splits[0], opener)))


def outcome(read: Callable[[], npt.NDArray[np.uint8]]) -> tuple[npt.NDArray[np.uint8] | None, str]:
    """The images that ``read`` gives, or the text of its ExternalError; any other exception is a failure."""
    try:
        return read(), ""
    except ExternalError as error:
        return None, str(error)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("unpacked", [False, True])
def test_published_files_read_as_they_were_written(kind: Format, unpacked: bool, tmp_path: Path) -> None:
    published = PUBLISHED[kind]
    (published.put_unpacked if unpacked else published.put)(tmp_path)
    verify(published.dataset, data_dir=tmp_path)
    size = published.dataset.shape[1]
    loaded = load_images(published.dataset, image_size=size, data_dir=tmp_path)
    np.testing.assert_array_equal(loaded.images, published.images)
    assert loaded.images.dtype == np.uint8
    assert not loaded.images.flags.writeable


@pytest.mark.parametrize("kind", FORMATS)
def test_labels_start_at_zero(kind: Format) -> None:
    published = PUBLISHED[kind]
    split = published.dataset.splits[0]
    labels = read_labels(published.dataset, split, lambda name: nullcontext(stream_of(published.contents[name])))
    np.testing.assert_array_equal(labels, published.labels)
    assert labels.dtype == np.int64


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FORMATS)
@given(how=damage, which=st.integers(0, 1))
def test_a_reader_meets_damage_with_an_error_that_names_the_file(
    kind: Format, how: tuple[str, float, bytes], which: int
) -> None:
    published = PUBLISHED[kind]
    name = list(published.contents)[which % len(published.contents)]
    contents = published.contents | {name: damaged(published.contents[name], how)}
    images, error = outcome(lambda: read_all(published, contents))
    if images is None:
        assert name in error
        assert "fetch it again" in error
    else:
        # Flipped pixels are no business of a format without checksums; shapes are.
        assert images.shape == published.images.shape
        assert how[0] == "flip" or np.array_equal(images, published.images)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("kind", FORMATS)
@given(how=damage)
def test_damaged_files_never_become_wrong_pixels(kind: Format, how: tuple[str, float, bytes]) -> None:
    published = PUBLISHED[kind]
    name = next(iter(published.files))
    with tempfile.TemporaryDirectory() as folder:
        published.put(Path(folder))
        (Path(folder) / name).write_bytes(damaged(published.files[name], how))
        size = published.dataset.shape[1]
        images, error = outcome(lambda: load_images(published.dataset, image_size=size, data_dir=folder).images)
        if images is None:
            assert name in error
        else:
            # The damage hit what does not matter, such as a .gz file's time stamp.
            np.testing.assert_array_equal(images, published.images)


def test_wrong_magic_is_told_with_offset_and_expectation() -> None:
    data = b"\x00\x00\x08\x01" + idx(PUBLISHED["idx"].images[:, 0])[4:]
    message = r"the-file: at byte 0 expected magic 0x00000803 \(IDX, unsigned bytes, 3 dimensions\), found 0x00000801"
    with pytest.raises(ExternalError, match=message):
        list(read_idx_images(stream_of(data), (COUNT, 28, 28)))


def test_truncation_is_told_with_offset_and_what_is_missing() -> None:
    data = idx(PUBLISHED["idx"].images[:, 0])[:-10]
    with pytest.raises(ExternalError, match=r"at byte 16 expected images 0 to 5 of 6 \(4704 bytes\), found the end"):
        list(read_idx_images(stream_of(data), (COUNT, 28, 28)))


def test_trailing_bytes_are_told_with_their_offset() -> None:
    data = idx(PUBLISHED["idx"].images[:, 0]) + b"x"
    with pytest.raises(ExternalError, match=r"at byte 4720 expected the end of the file, found more bytes"):
        list(read_idx_images(stream_of(data), (COUNT, 28, 28)))


def test_a_header_that_claims_four_billion_images_takes_no_memory() -> None:
    import tracemalloc

    data = struct.pack(">4I", 0x803, 2**32 - 1, 28, 28)
    tracemalloc.start()
    with pytest.raises(ExternalError, match="expected dimensions 4294967294 x 28 x 28, found 4294967295 x 28 x 28"):
        list(read_idx_images(stream_of(data), (2**32 - 2, 28, 28)))
    with pytest.raises(ExternalError, match="found the end after 0 bytes"):
        list(read_idx_images(stream_of(data), (2**32 - 1, 28, 28)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 << 20


def test_trailing_garbage_after_a_gzip_stream_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"abc") + b"garbage")
    with gzip.open(path) as raw:
        stream = ContentStream(raw, "x.gz", "fetch it again")  # type: ignore[arg-type]
        stream.read_up_to(2)
        with pytest.raises(ExternalError, match=r"x\.gz: at byte 2 expected readable data, found Not a gzipped file"):
            stream.read_exactly(2, "two bytes")


def test_the_python2_pickles_of_these_tests_are_what_numpy_wrote() -> None:
    images = PUBLISHED["cifar"].images
    batch = pickle.loads(cifar_batch(images, PUBLISHED["cifar"].labels), encoding="bytes")
    np.testing.assert_array_equal(batch[b"data"], images.reshape(COUNT, -1))


class _Evil:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_a_command_is_refused_by_name(protocol: int, tmp_path: Path) -> None:
    data = pickle.dumps(_Evil(str(tmp_path / "ran")), protocol)
    with pytest.raises(ExternalError, match=r"the-file: .*the forbidden global (posix|nt)\.system"):
        read_cifar(stream_of(data), COUNT, "labels")
    assert not (tmp_path / "ran").exists()


def test_an_instruction_that_the_archives_do_not_use_is_refused() -> None:
    data = b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"."
    with pytest.raises(ExternalError, match="expected a CIFAR batch"):
        read_cifar(stream_of(data), COUNT, "labels")
    extension = b"\x80\x02\x82\x01."  # a global looked up in copyreg's table
    with pytest.raises(ExternalError, match="the forbidden instruction EXT1 at byte 2"):
        read_cifar(stream_of(extension), COUNT, "labels")


def test_a_memo_index_cannot_ask_for_memory() -> None:
    data = b"\x80\x02}r\xff\xff\xff\x7f."
    with pytest.raises(ExternalError, match="memo index 2147483647"):
        read_cifar(stream_of(data), COUNT, "labels")


@pytest.mark.parametrize(
    ("batch", "problem"),
    [
        ({b"labels": [0] * 4}, "'data' of 4 x 3072 unsigned bytes, found nothing"),
        ({b"data": np.zeros((4, 3071), np.uint8), b"labels": [0] * 4}, r"found an array of shape \(4, 3071\)"),
        ({b"data": np.zeros((4, 3072), np.uint8), b"labels": [0] * 3}, "4 whole numbers, found list of length 3"),
        ({b"data": np.zeros((4, 3072), np.uint8)}, "4 whole numbers, found nothing"),
        ([1, 2], "'data' of 4 x 3072 unsigned bytes, found nothing"),
    ],
)
def test_a_batch_that_holds_something_else_is_described(batch: object, problem: str) -> None:
    with pytest.raises(ExternalError, match=problem):
        read_cifar(stream_of(python2_pickle(batch)), 4, "labels")


def test_an_endless_batch_is_not_read_to_its_end() -> None:
    with (
        Path("/dev/zero").open("rb") as endless,
        pytest.raises(ExternalError, match="the end of a batch of 4 images"),
    ):
        read_cifar(ContentStream(endless, "zero", ""), 4, "labels")


def test_a_label_out_of_range_is_told() -> None:
    published = PUBLISHED["idx"]
    wrong = published.contents | {"tiny-labels": published.contents["tiny-labels"][:-1] + b"\x0a"}
    with pytest.raises(ExternalError, match="tiny-labels: label 5 is 10, expected 0 to 9"):
        read_all(published, wrong)


@pytest.mark.parametrize("what", ["a name of lists", "a shape of tuples", "a key of tuples"])
def test_parts_that_are_shared_have_no_end(what: str) -> None:
    """Of 2^40 parts in 300 bytes nothing may look at each."""
    if what == "a name of lists":
        doubled = b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(40))
        data = b"\x80\x02]q\x00" + doubled + b"cnumpy\ndtype\nh(\x85R."
    else:
        doubled = b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(40))
        last = b"}h(K\x01s." if what == "a key of tuples" else b"."
        data = b"\x80\x02)q\x00" + doubled + last
    with pytest.raises(ExternalError, match="x: at byte 0 expected"):
        read_cifar(ContentStream(io.BytesIO(data), "x", "get it again"), 4, "labels")


def test_a_mat_with_two_variables_of_one_name_is_refused() -> None:
    content = PUBLISHED["svhn"].contents["tiny.mat"]
    twice = content + content[128:]
    with pytest.raises(ExternalError, match="two variables of one name"):
        read_svhn(ContentStream(io.BytesIO(twice), "x", "get it again"), 6)
