"""Folders and zips of odd images: what is taken, in which order, what becomes of each mode, what is refused."""

import io
import os
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from d3gan.data.load import ImageSet, load_images
from d3gan.data.published.verify import verify
from d3gan.errors import ConfigError, ExternalError

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (90, 90, 90)}


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def plain(colour: str, size: tuple[int, int] = (16, 16)) -> bytes:
    # Uncompressed, so that files of two colours have one length and only their content tells them apart.
    return encoded(Image.new("RGB", size, COLOURS[colour]), compress_level=0)


def make_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data-folder"


def only_pixel(image: bytes, data_dir: Path, channels: int = 3) -> list[int]:
    """The values of the middle pixel that a folder with this image alone gives."""
    folder = make_folder(data_dir.parent / "one", {"a.png": image})
    images = load_images(folder, image_size=8, channels=channels, data_dir=data_dir).images
    assert images.shape == (1, channels, 8, 8)
    return [int(value) for value in images[0, :, 4, 4]]


def test_only_images_count_in_sorted_order_whatever_the_case_of_their_ending(
    tmp_path: Path, data_dir: Path, said: list[str]
) -> None:
    webp, jpeg = (encoded(Image.new("RGB", (16, 16), COLOURS["blue"]), kind) for kind in ("WEBP", "JPEG"))
    files = {
        "b/1.PNG": plain("green"),
        "a/2.png": plain("red"),
        "c/deep/x.WebP": webp,
        "d.Jpeg": jpeg,
        "e.JPG": jpeg,
        "notes.txt": b"",
        "model.bmp": b"",
        ".hidden.png": b"",
        "__MACOSX/a/._2.png": b"",
        ".git/x.png": b"",
    }
    said.clear()
    folder = load_images(make_folder(tmp_path / "set.v2", files), image_size=16, data_dir=data_dir)
    archive = load_images(
        make_zip(tmp_path / "Set.ZIP", dict(reversed(files.items()))), image_size=16, data_dir=data_dir
    )
    assert said[0] == f"{tmp_path / 'set.v2'}: 5 images; 5 other files ignored"
    assert (folder.name, folder.split, archive.name) == ("set.v2", "all", "Set")
    np.testing.assert_array_equal(folder.images, archive.images)
    assert folder.images[:, :, 8, 8].tolist()[:2] == [[255, 0, 0], [0, 255, 0]]
    assert all(blue > 250 and red < 5 for red, _, blue in folder.images[2:, :, 8, 8].tolist())


def test_the_middle_square_is_kept(tmp_path: Path, data_dir: Path) -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    folder = make_folder(tmp_path / "x", {"wide.png": encoded(Image.fromarray(wide))})
    assert (load_images(folder, image_size=4, data_dir=data_dir).images == 200).all()


def test_an_image_of_the_right_size_is_not_touched(tmp_path: Path, data_dir: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (8, 8, 3), np.uint8)
    folder = make_folder(tmp_path / "x", {"a.png": encoded(Image.fromarray(pixels))})
    loaded = load_images(folder, image_size=8, data_dir=data_dir).images
    np.testing.assert_array_equal(loaded[0], pixels.transpose(2, 0, 1))


def test_shrinking_does_not_alias(tmp_path: Path, data_dir: Path) -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    folder = make_folder(tmp_path / "x", {"a.png": encoded(Image.fromarray(stripes))})
    middle = load_images(folder, image_size=8, data_dir=data_dir).images[0, :, :, 2:6]
    assert abs(middle.astype(int) - 127).max() <= 3


def sixteen_bit(value: int) -> bytes:
    return encoded(Image.fromarray(np.full((8, 8), value, np.uint16)))


def palette_with_transparency() -> bytes:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    return encoded(image, transparency=bytes([255, 0]))


def first_of_two_frames() -> bytes:
    frames = [Image.new("RGB", (8, 8), COLOURS[name]) for name in ("green", "red")]
    return encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)


@pytest.mark.parametrize(
    ("image", "rgb", "luminance"),
    [
        pytest.param(encoded(Image.new("RGB", (8, 8), (200, 100, 50))), [200, 100, 50], 124, id="RGB"),
        pytest.param(encoded(Image.new("L", (8, 8), 77)), [77] * 3, 77, id="grey"),
        pytest.param(encoded(Image.new("1", (8, 8), 1)), [255] * 3, 255, id="one bit"),
        pytest.param(sixteen_bit(65535), [255] * 3, 255, id="16-bit white"),
        pytest.param(sixteen_bit(257 * 100), [100] * 3, 100, id="16-bit grey"),
        pytest.param(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0))), [255] * 3, 255, id="transparent"),
        pytest.param(encoded(Image.new("LA", (8, 8), (0, 51))), [204] * 3, 204, id="grey, a fifth opaque"),
        pytest.param(palette_with_transparency(), [255] * 3, 255, id="transparent palette entry"),
        pytest.param(encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "JPEG"), [0] * 3, 0, id="CMYK"),
        pytest.param(first_of_two_frames(), [0, 255, 0], 150, id="animation"),
    ],
)
def test_every_mode_becomes_rgb_or_luminance(image: bytes, rgb: list[int], luminance: int, data_dir: Path) -> None:
    assert only_pixel(image, data_dir) == rgb
    assert only_pixel(image, data_dir, channels=1) == [luminance]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_photograph_is_turned_as_its_exif_says(orientation: int, kind: str, data_dir: Path) -> None:
    from PIL import ImageOps

    corner = np.zeros((16, 16, 3), np.uint8)
    corner[:8, 4:8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(corner), kind, exif=exif)
    folder = make_folder(data_dir.parent / "one", {"a.png": data})
    loaded = load_images(folder, image_size=16, data_dir=data_dir).images[0]
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    np.testing.assert_array_equal(loaded, upright.transpose(2, 0, 1))


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says it has ``side`` x ``side`` pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64)))


def half_an_image() -> bytes:
    noise = np.random.default_rng(5).integers(0, 256, (16, 16, 3), np.uint8)
    data = encoded(Image.fromarray(noise))
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is not one"),
        (b"no image", "is not one"),
        (half_an_image(), "truncated|incomplete|broken"),
        # Pillow fails on the one and only warns about the other.
        (bomb(20_000), "exceeds limit of .* pixels"),
        (bomb(10_000), "pixels, above 89,478,485"),
        (encoded(Image.new("RGB", (8, 8)), "GIF"), "is not one"),
    ],
    ids=["empty", "text", "truncated", "bomb", "small bomb", "a GIF called PNG"],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_bad_image_is_named_with_its_place(
    data: bytes, why: str, zipped: bool, tmp_path: Path, data_dir: Path
) -> None:
    files = {f"{i}.png": plain("red") for i in range(9)} | {"sub/bad.png": data}
    path = make_zip(tmp_path / "x.zip", files) if zipped else make_folder(tmp_path / "x", files)
    message = rf"x(\.zip)?: sub/bad\.png: cannot be read as PNG, JPEG or WebP \(.*({why})"
    with pytest.raises(ExternalError, match=message):
        load_images(path, image_size=8, data_dir=data_dir)
    assert not list(data_dir.rglob("*.npy")), "nothing half-made is left"
    with pytest.raises(ExternalError, match=r"sub/bad\.png"):
        verify(path)


def test_verify_names_some_bad_images_and_counts_the_others(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "x", {f"{i}.png": b"bad" for i in range(8)} | {"good.png": plain("red")})
    with pytest.raises(ExternalError) as caught:
        verify(folder)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{folder}: 0.png: cannot be read")
    assert len(lines) == 6
    assert lines[-1] == "and 3 more"


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 400), bits=st.integers(1, 255), at=st.integers(0, 400))
def test_a_damaged_zip_is_an_error_or_the_same_pixels(
    tmp_path_factory: pytest.TempPathFactory, cut: int, bits: int, at: int
) -> None:
    folder = tmp_path_factory.mktemp("zip")
    path = make_zip(folder / "x.zip", {"a.png": plain("red"), "b.png": plain("green")})
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= bits
    path.write_bytes(data[: len(data) - cut // 4 if cut % 4 == 0 else len(data)])
    try:
        loaded = load_images(path, image_size=16, data_dir=folder / "data").images
    except ExternalError as error:
        refusal = str(error)
        loaded = None
    if loaded is None:
        assert "x.zip" in refusal
    else:
        # A damaged directory may hide a file or its ending; what is read must be one of the images.
        assert loaded[:, :, 8, 8].tolist() in (
            [[255, 0, 0], [0, 255, 0]],
            [[255, 0, 0]],
            [[0, 255, 0]],
            [[0, 255, 0], [255, 0, 0]],
        )


def test_an_encrypted_zip_is_told(tmp_path: Path, data_dir: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.png": plain("red")})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ExternalError, match=r"x\.zip: a\.png: is encrypted"):
        load_images(path, data_dir=data_dir)


def test_a_zip_that_points_outside_writes_nothing_there(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "in").mkdir()
    path = make_zip(tmp_path / "in/x.zip", {"../out.png": plain("red")})
    assert len(load_images(path, image_size=8, data_dir=data_dir).images) == 1
    assert not (tmp_path / "out.png").exists()


def test_an_enormous_member_is_not_unpacked(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d3gan.data.folders.MAX_FILE_BYTES", 50)
    path = make_zip(tmp_path / "x.zip", {"a.png": plain("red")})
    with pytest.raises(ExternalError, match=r"x\.zip: a\.png: is [\d,]+ bytes long, above 50"):
        load_images(path, data_dir=data_dir)
    with pytest.raises(ExternalError, match=r"bytes long, above 50"):
        load_images(make_folder(tmp_path / "x", {"a.png": plain("red")}), data_dir=data_dir)


@pytest.mark.parametrize("files", [{}, {"readme.txt": b"x"}])
def test_a_folder_or_zip_without_images_is_told(files: dict[str, bytes], tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "x").mkdir()
    for path in (make_folder(tmp_path / "x", files), make_zip(tmp_path / "x.zip", files)):
        with pytest.raises(ExternalError, match=rf"holds no image \(.png, .jpg, .jpeg, .webp; {len(files)} other"):
            load_images(path, data_dir=data_dir)


def test_a_file_that_is_no_zip_is_told(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"no zip")
    with pytest.raises(ExternalError, match=r"x\.zip: cannot be opened as a zip"):
        load_images(tmp_path / "x.zip", data_dir=data_dir)


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_links_are_followed_but_not_in_circles(tmp_path: Path, data_dir: Path) -> None:
    make_folder(tmp_path / "elsewhere", {"b.png": plain("green")})
    folder = make_folder(tmp_path / "x", {"a.png": plain("red")})
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(folder)
    assert load_images(folder, image_size=8, data_dir=data_dir).images[:, :, 4, 4].tolist() == [
        [255, 0, 0],
        [0, 255, 0],
    ]


@pytest.mark.skipif(os.name != "posix", reason="FIFOs and symbolic links")
def test_what_is_no_file_is_passed_over_and_named(tmp_path: Path, data_dir: Path, said: list[str]) -> None:
    folder = make_folder(tmp_path / "x", {"a.png": plain("red"), "sub/b.png": plain("green")})
    (folder / "link.png").symlink_to("gone.png")
    (folder / "self.png").symlink_to("self.png")
    os.mkfifo(folder / "sub" / "fifo.png")
    (folder / "device.png").symlink_to("/dev/zero")
    assert load(folder, data_dir).images.shape[0] == 2
    assert said[0] == (
        f"{folder}: passed over, as no files: device.png (a device), link.png (a link to nothing), "
        "self.png (a link that leads to itself) and 1 more"
    )
    assert f"{folder}: 2 images; 4 other files ignored" in said
    verify(folder)


@pytest.mark.skipif(os.name != "posix", reason="FIFOs and symbolic links")
@pytest.mark.parametrize("kind", ["a FIFO", "a link to nothing", "a link that leads to itself"])
def test_what_is_no_file_is_named_as_a_data_set(kind: str, tmp_path: Path, data_dir: Path) -> None:
    path = tmp_path / "x.zip"
    if kind == "a FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to("gone" if kind == "a link to nothing" else "x.zip")
    with pytest.raises(ConfigError, match=rf"dataset = .*x\.zip: is {kind}"):
        load(path, data_dir)


def test_windows_separators_in_a_zip_are_separators(tmp_path: Path, data_dir: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in (r"p\a.png", r"__MACOSX\p\._a.png", r"p\._a.png", r".hidden\b.png"):
            entry = zipfile.ZipInfo("x")
            entry.filename = name
            archive.writestr(entry, plain("red") if name == r"p\a.png" else b"\0\5\x16\7")
    assert load(path, data_dir).images.shape[0] == 1


def test_a_member_without_a_name_is_no_image(tmp_path: Path, data_dir: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.png": plain("red"), "y": b""})
    content = path.read_bytes()
    # The one-letter name becomes empty in the directory; its letter stays as a byte of the extra field.
    at = content.rindex(b"PK\1\2")
    path.write_bytes(content[: at + 28] + struct.pack("<HH", 0, 1) + content[at + 32 :])
    assert load(path, data_dir).images.shape[0] == 1


def load(path: Path, data_dir: Path, size: int = 8, channels: int = 3) -> ImageSet:
    return load_images(path, image_size=size, channels=channels, data_dir=data_dir)


def test_the_checksum_is_that_of_content_size_and_channels(tmp_path: Path, data_dir: Path) -> None:
    files = {"a.png": plain("red"), "b.png": plain("green")}
    folder = make_folder(tmp_path / "x", files)
    copy = shutil.copytree(folder, tmp_path / "y")
    os.utime(copy / "a.png", (1, 1))
    original = load(folder, data_dir).checksum
    assert load(copy, data_dir).checksum == original
    others = [load(folder, data_dir, size=4).checksum, load(folder, data_dir, channels=1).checksum]
    (copy / "a.png").rename(copy / "c.png")
    others.append(load(copy, data_dir).checksum)
    assert len({original, *others}) == 4
    assert all(len(checksum) == 64 for checksum in others)


def test_an_edit_that_keeps_size_and_time_is_noticed(tmp_path: Path, data_dir: Path) -> None:
    folder = make_folder(tmp_path / "x", {"a.png": plain("red")})
    before = (folder / "a.png").stat()
    load(folder, data_dir)
    edited = plain("green")
    assert len(edited) == before.st_size
    (folder / "a.png").write_bytes(edited)
    os.utime(folder / "a.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load(folder, data_dir).images[0, :, 4, 4].tolist() == [0, 255, 0]


def test_a_zip_edited_in_place_is_noticed(tmp_path: Path, data_dir: Path) -> None:
    first = load(make_zip(tmp_path / "x.zip", {"a.png": plain("red")}), data_dir)
    second = load(make_zip(tmp_path / "x.zip", {"a.png": plain("green")}), data_dir)
    assert first.checksum != second.checksum
    assert second.images[0, :, 4, 4].tolist() == [0, 255, 0]


def test_a_folder_that_changes_meanwhile_is_not_cached(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from d3gan.data import folders

    folder = make_folder(tmp_path / "x", {"a.png": plain("red")})
    upright = folders._upright

    def disturb(image: Image.Image, data: bytes, channels: int) -> Image.Image:
        (folder / "b.png").write_bytes(plain("green"))
        return upright(image, data, channels)

    monkeypatch.setattr(folders, "_upright", disturb)
    with pytest.raises(ExternalError, match="changed while being read"):
        load(folder, data_dir)
    assert not list(data_dir.rglob("*.npy"))


def test_the_number_of_workers_changes_nothing(tmp_path: Path, data_dir: Path) -> None:
    random = np.random.default_rng(0)
    pixels: list[npt.NDArray[np.uint8]] = [random.integers(0, 256, (20, 30, 3), np.uint8) for _ in range(40)]
    path = make_zip(tmp_path / "x.zip", {f"{i:02}.png": encoded(Image.fromarray(p)) for i, p in enumerate(pixels)})
    loaded = [load_images(path, data_dir=data_dir / str(n), workers=n, image_size=16).images for n in (0, 1, 5)]
    np.testing.assert_array_equal(loaded[0], loaded[1])
    np.testing.assert_array_equal(loaded[0], loaded[2])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mnits", "is neither a known name nor an existing path (did you mean 'mnist'?)"),
        ("cifar-10", "did you mean 'cifar10'?"),
        ("/no/such/folder", "or the path of a folder or .zip"),
    ],
)
def test_an_unknown_data_set_is_told_with_the_nearest_name(name: str, said: str, data_dir: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_images(name, data_dir=data_dir)
    assert str(caught.value).startswith(f"dataset = {name}: ")
    assert said in str(caught.value)
    assert "mnist, fashion-mnist, cifar10, cifar100, svhn, stl10, stl" in str(caught.value)


def test_a_file_of_another_kind_is_told(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "x.tar").touch()
    with pytest.raises(ConfigError, match=r"is a file, but no \.zip"):
        load_images(tmp_path / "x.tar", data_dir=data_dir)


MEMORY_PROGRAM = """
import resource, sys, numpy
import PIL.Image, PIL.JpegImagePlugin
from d3gan.data.load import load_images
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images = load_images(sys.argv[1], image_size=64, data_dir=sys.argv[2]).images
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(images), before * 1024, after * 1024)
"""


@pytest.mark.slow
def test_a_zip_of_50_000_images_is_read_in_little_memory(tmp_path: Path) -> None:
    path = Path(__file__).parents[3] / "shared/data/cifar10-jpeg-train.zip"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    program = [sys.executable, "-c", MEMORY_PROGRAM, str(path), str(tmp_path)]
    count, before, after = map(int, subprocess.check_output(program, text=True, timeout=110).split())
    assert count == 50_000
    # The array of 614 MB goes to disk as it is made, so what is asked for (1 GB beyond it) is kept without it.
    assert after - before < 200e6
