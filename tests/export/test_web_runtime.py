"""Where the browser's runtime comes from, and that nothing but the published files is used."""

import hashlib
import os
import stat
import sys
import tarfile
from pathlib import Path

import pytest

from d3gan.errors import ConfigError, ExternalError
from d3gan.export import web_runtime
from d3gan.export.web_runtime import RuntimeFile, obtain_runtime

NOWHERE = "http://127.0.0.1:9/"  # nothing listens there
CONTENTS = {
    "ort.wasm.min.js": b"script",
    "ort-wasm-simd-threaded.mjs": b"glue",
    "ort-wasm-simd-threaded.wasm": b"\0asm",
}


@pytest.fixture(autouse=True)
def tiny_files(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [RuntimeFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENTS.items()]
    for name, value in {"FILES": tuple(files), "BINARY": files[2]}.items():
        monkeypatch.setattr(web_runtime, name, value)


def put(folder: Path, **changes: bytes) -> Path:
    folder.mkdir(parents=True)
    for name, data in CONTENTS.items():
        (folder / name).write_bytes(changes.get(name.split(".")[-1], data))
    return folder


def npm(folder: Path, monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> None:
    """A stand-in for npm, which hands out an archive with these files."""
    put_in = folder / "package/dist"
    put_in.mkdir(parents=True)
    for name, data in contents.items():
        (put_in / name).write_bytes(data)
    with tarfile.open(folder / "made.tgz", "w:gz") as archive:
        archive.add(folder / "package", "package")
    path = folder / "npm"
    path.write_text(f"#!{sys.executable}\nimport shutil\nshutil.copy({str(folder / 'made.tgz')!r}, 'a.tgz')\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for npm is a script")
def test_it_is_fetched_once_checked_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    npm(tmp_path / "good", monkeypatch, CONTENTS)
    first = obtain_runtime(data_dir=tmp_path / "data", mirrors=(NOWHERE,))
    assert {file.name: data for file, data in first.items()} == CONTENTS
    assert any("taken from npm, checksums correct" in line for line in said)
    monkeypatch.setenv("PATH", "")
    assert obtain_runtime(data_dir=tmp_path / "data", mirrors=()) == first
    (kept,) = (tmp_path / "data").glob("onnxruntime-web-*/")
    (kept / "ort.wasm.min.js").write_bytes(b"another")
    with pytest.raises(ExternalError, match="npm is not installed"):
        obtain_runtime(data_dir=tmp_path / "data", mirrors=())


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for npm is a script")
def test_other_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm(tmp_path / "bad", monkeypatch, CONTENTS | {"ort.wasm.min.js": b"evil"})
    with pytest.raises(ExternalError) as caught:
        obtain_runtime(data_dir=tmp_path / "data", mirrors=(NOWHERE,))
    text = str(caught.value)
    assert "127.0.0.1:9: " in text
    assert "npm: ort.wasm.min.js: its SHA-256 is" in text
    assert "with --runtime" in text
    assert "\n" not in text
    assert not list(tmp_path.glob("data/*/*.wasm"))


@pytest.mark.parametrize("below", ["", "dist", "package/dist", "onnxruntime-web/dist"])
def test_a_folder_of_the_user_is_used_as_it_was_unpacked_or_installed(below: str, tmp_path: Path) -> None:
    put(tmp_path / "mine" / below)
    assert set(obtain_runtime(str(tmp_path / "mine")).values()) == set(CONTENTS.values())


def test_a_folder_of_the_user_with_another_version_is_named(tmp_path: Path) -> None:
    put(tmp_path / "other", wasm=b"newer")
    with pytest.raises(
        ExternalError, match=r"other/ort-wasm-simd-threaded.wasm: its SHA-256 is .*; get it with `npm"
    ):
        obtain_runtime(str(tmp_path / "other"))
    with pytest.raises(ConfigError, match=r"holds no ort-wasm-simd-threaded.wasm"):
        obtain_runtime(str(tmp_path))
