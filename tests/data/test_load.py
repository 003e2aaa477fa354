"""What `load_images` keeps on disk: found again without sources, rebuilt when damaged, never half-written."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d3gan.data import prepared_cache
from d3gan.data.load import load_images
from d3gan.data.locate import data_folder
from d3gan.errors import ConfigError, ExternalError
from tests.data.published.formats import Published, publish


@pytest.fixture(scope="module")
def tiny() -> Published:
    return publish("idx")


def cache_file(folder: Path) -> Path:
    (path,) = (folder / "prepared").glob("*.npy")
    return path


def test_once_prepared_the_source_is_not_needed(tiny: Published, tmp_path: Path, said: list[str]) -> None:
    tiny.put(tmp_path)
    first = load_images(tiny.dataset, data_dir=tmp_path)
    for name in tiny.files:
        (tmp_path / name).unlink()
    said.clear()
    second = load_images(tiny.dataset, data_dir=tmp_path)
    np.testing.assert_array_equal(first.images, second.images)
    assert first.checksum == second.checksum
    assert said == [f"tiny-idx train: 6 images from {cache_file(tmp_path)}"]


def test_grey_stays_at_one_channel_and_is_resized_bilinearly(tiny: Published, tmp_path: Path) -> None:
    from PIL import Image

    tiny.put(tmp_path)
    loaded = load_images(tiny.dataset, image_size=32, channels=3, data_dir=tmp_path)
    assert loaded.images.shape == (6, 1, 32, 32)
    expected = Image.fromarray(tiny.images[2, 0]).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(loaded.images[2, 0], np.asarray(expected))
    assert load_images(tiny.dataset, image_size=32, channels=1, data_dir=tmp_path).checksum == loaded.checksum


def test_colour_becomes_luminance_when_one_channel_is_asked_for(tmp_path: Path) -> None:
    cifar = publish("cifar")
    cifar.put(tmp_path)
    grey = load_images(cifar.dataset, channels=1, data_dir=tmp_path).images
    assert grey.shape == (6, 1, 32, 32)
    exact = np.tensordot([0.299, 0.587, 0.114], cifar.images.astype(float), axes=(0, 1))
    assert np.abs(grey[:, 0] - exact).max() <= 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: b"",
        lambda data: data[:5],
        lambda data: b"PK\x03\x04" + data[4:],
        lambda data: data.replace(b"|u1", b"|i1"),
        lambda data: data.replace(b"(6, 1", b"(1, 6"),
    ],
    ids=["cut", "extended", "empty", "half a header", "another magic", "another type", "another shape"],
)
def test_a_damaged_cache_file_is_noticed_and_rebuilt(
    damage: object, tiny: Published, tmp_path: Path, said: list[str]
) -> None:
    tiny.put(tmp_path)
    load_images(tiny.dataset, image_size=28, data_dir=tmp_path)
    path = cache_file(tmp_path)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    said.clear()
    again = load_images(tiny.dataset, image_size=28, data_dir=tmp_path)
    np.testing.assert_array_equal(again.images, tiny.images)
    assert f"{path}: is damaged" in said[0]


def test_ctrl_c_leaves_nothing_under_a_final_name(
    tiny: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from d3gan.data import load

    def interrupted(*_arguments: object) -> object:
        yield tiny.images[:1]
        raise KeyboardInterrupt

    tiny.put(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(load, "read_images", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load_images(tiny.dataset, image_size=28, data_dir=tmp_path)
    assert [p.name for p in (tmp_path / "prepared").iterdir() if p.suffix != ".lock"] == []
    np.testing.assert_array_equal(load_images(tiny.dataset, image_size=28, data_dir=tmp_path).images, tiny.images)


def test_a_killed_process_leaves_a_rest_that_is_overwritten(tiny: Published, tmp_path: Path) -> None:
    tiny.put(tmp_path)
    load_images(tiny.dataset, image_size=28, data_dir=tmp_path)
    path = cache_file(tmp_path)
    path.rename(path.with_name(path.name + ".tmp"))
    np.testing.assert_array_equal(load_images(tiny.dataset, image_size=28, data_dir=tmp_path).images, tiny.images)


def test_a_folder_that_cannot_be_made_says_what_to_do(tiny: Published, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    tiny.put(tmp_path)
    with pytest.raises(ExternalError, match=r"file.*choose another folder with --data-dir or \$D3GAN_DATA"):
        load_images(tiny.dataset, data_dir=tmp_path / "file" / "data")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_read_only_folder_says_what_to_do(tiny: Published, tmp_path: Path) -> None:
    tiny.put(tmp_path)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ExternalError, match=r"prepared: Permission denied; .*--data-dir"):
            load_images(tiny.dataset, data_dir=tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_too_little_room_is_told_before_anything_is_written(
    tiny: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from types import SimpleNamespace

    tiny.put(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1000))
    with pytest.raises(ExternalError, match=r"needs 6,144 bytes, 1,000 are free; free some space"):
        load_images(tiny.dataset, data_dir=tmp_path)


FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
sys.path.insert(0, sys.argv[2])
from tests.data.published.formats import publish
from d3gan.data.load import load_images
from d3gan.errors import ExternalError
try:
    load_images(publish("idx").dataset, data_dir=sys.argv[1])
except ExternalError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
def test_a_write_that_fails_half_way_leaves_nothing(tiny: Published, tmp_path: Path) -> None:
    tiny.put(tmp_path)
    program = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(Path(__file__).parents[2])]
    said = subprocess.check_output(program, text=True, timeout=60)
    assert "File too large; free some space there, or choose another folder with --data-dir" in said
    assert [p.name for p in (tmp_path / "prepared").iterdir() if p.suffix != ".lock"] == []


def test_the_data_folder_is_the_argument_then_the_variable_then_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D3GAN_DATA", str(tmp_path / "variable"))
    assert data_folder(tmp_path) == tmp_path
    assert data_folder(None) == tmp_path / "variable"
    monkeypatch.delenv("D3GAN_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_folder(None).name == "d3gan"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"split": "validation"}, "split = validation: tiny-idx has train"),
        ({"channels": 4}, "nc = 4: images can have 1 or 3 channels"),
        ({"image_size": 0}, "image_size = 0: must be at least 1"),
    ],
)
def test_a_bad_value_is_told(options: dict[str, object], said: str, tiny: Published, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        load_images(tiny.dataset, data_dir=tmp_path, **options)  # type: ignore[arg-type]


def test_importing_the_package_is_light() -> None:
    program = (
        "import sys; from d3gan.data.published.commands import catalog_lines; catalog_lines('.'); print(*sys.modules)"
    )
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=60).split()
    assert {"torch", "numpy", "scipy", "PIL", "requests"}.isdisjoint(loaded)


@pytest.mark.network
def test_mnist_itself(tmp_path: Path) -> None:
    from d3gan.data.published.commands import fetch
    from d3gan.data.published.verify import verify

    try:
        fetch("mnist", data_dir=tmp_path)
    except ExternalError as error:
        pytest.skip(str(error))
    verify("mnist", data_dir=tmp_path)
    images = load_images("mnist", image_size=28, data_dir=tmp_path).images
    assert images.shape == (60_000, 1, 28, 28)
    # The mean of MNIST's training pixels as everybody normalises by it.
    assert images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("place", [-1, -6 * 28 * 28, -2000])
def test_a_flipped_bit_in_prepared_pixels_is_noticed_and_mended(
    place: int, tiny: Published, tmp_path: Path, said: list[str]
) -> None:
    tiny.put(tmp_path)
    load_images(tiny.dataset, image_size=28, data_dir=tmp_path)
    path = cache_file(tmp_path)
    flip(path, place)
    said.clear()
    np.testing.assert_array_equal(load_images(tiny.dataset, image_size=28, data_dir=tmp_path).images, tiny.images)
    assert said[0] == f"{path}: is damaged (its checksums differ from its pixels); preparing it again"


@pytest.fixture
def in_small_blocks(tiny: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache whose images are checked as they are read, each by itself."""
    monkeypatch.setattr(prepared_cache, "CHECKED_BYTES", 28 * 28)
    monkeypatch.setattr(prepared_cache, "CHECKED_AT_ONCE", 0)
    tiny.put(tmp_path)
    load_images(tiny.dataset, image_size=28, data_dir=tmp_path)
    return cache_file(tmp_path)


@pytest.mark.parametrize(
    "index",
    [
        3,
        -3,
        slice(2, 5),
        slice(None),
        slice(5, 1, -1),
        [0, 3],
        np.array([1, -3]),
        np.arange(6) == 3,
        ...,
        ([3, 0], 0),
    ],
    ids=str,
)
def test_a_large_file_is_checked_as_it_is_read(
    index: Any, in_small_blocks: Path, tiny: Published, tmp_path: Path
) -> None:
    intact = load_images(tiny.dataset, image_size=28, data_dir=tmp_path).images
    np.testing.assert_array_equal(intact[index], tiny.images[index])
    assert type(intact[index]) is np.ndarray
    flip(in_small_blocks, 128 + 3 * 28 * 28 + 100)
    images = load_images(tiny.dataset, image_size=28, data_dir=tmp_path).images
    np.testing.assert_array_equal(images[[0, 1, 2, 4, 5]], tiny.images[[0, 1, 2, 4, 5]])
    with pytest.raises(ExternalError, match=r"\.npy: is damaged \(images from 3 on\); run the same command again"):
        images[index]
    np.testing.assert_array_equal(load_images(tiny.dataset, image_size=28, data_dir=tmp_path).images, tiny.images)


CUT_SHORT = """
import os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tests.data.published.formats import publish
from d3gan.data.load import load_images
from d3gan.errors import ExternalError
images = load_images(publish("idx").dataset, image_size=64, data_dir=sys.argv[1]).images
images[0]
os.truncate(next((Path(sys.argv[1]) / "prepared").glob("*.npy")), 1000)
try:
    images[5].sum()
except ExternalError as error:
    print(error)
"""


def test_a_file_cut_short_while_in_use_is_an_error_and_no_bus_error(tiny: Published, tmp_path: Path) -> None:
    tiny.put(tmp_path)
    command = [sys.executable, "-c", CUT_SHORT, str(tmp_path), str(Path(__file__).parents[2])]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert ".npy: was changed while in use, from 24,704 to 1,000 bytes; run the same command again" in result.stdout
    assert load_images(tiny.dataset, image_size=64, data_dir=tmp_path).images[:].shape == (6, 1, 64, 64)


def test_a_cache_of_an_earlier_version_gets_its_checksums(tiny: Published, tmp_path: Path, said: list[str]) -> None:
    tiny.put(tmp_path)
    load_images(tiny.dataset, image_size=28, data_dir=tmp_path)
    sums = cache_file(tmp_path).with_name(cache_file(tmp_path).name + ".crc32")
    before = sums.read_bytes()
    sums.unlink()
    for name in tiny.files:
        (tmp_path / name).unlink()
    np.testing.assert_array_equal(load_images(tiny.dataset, image_size=28, data_dir=tmp_path).images, tiny.images)
    assert sums.read_bytes() == before


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data + b"x", lambda data: bytes(len(data) - 1) + b"x"]
)
def test_checksums_that_are_damaged_are_made_again(damage: object, tiny: Published, tmp_path: Path) -> None:
    tiny.put(tmp_path)
    load_images(tiny.dataset, image_size=28, data_dir=tmp_path)
    sums = cache_file(tmp_path).with_name(cache_file(tmp_path).name + ".crc32")
    before = sums.read_bytes()
    sums.write_bytes(damage(before))  # type: ignore[operator]
    np.testing.assert_array_equal(load_images(tiny.dataset, image_size=28, data_dir=tmp_path).images, tiny.images)
    assert sums.read_bytes() == before


def test_a_user_without_a_home_is_asked_for_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("D3GAN_DATA", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(_number: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(ConfigError, match=r"no home folder: name a folder for data with --data-dir or \$D3GAN_DATA"):
        data_folder()
