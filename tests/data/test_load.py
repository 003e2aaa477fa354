"""What `load_images` keeps on disk: found again without sources, rebuilt when damaged, never half-written."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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


def test_without_a_home_folder_one_line_says_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with ``docker run -u 54321``: no HOME, and a user that no file knows."""
    for name in ("HOME", "USERPROFILE", "D3GAN_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    pwd = pytest.importorskip("pwd")

    def no_entry(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    with pytest.raises(ConfigError, match=r"no home folder is known.*--data-dir"):
        data_folder()
    assert data_folder("~/here") == Path("~/here")
