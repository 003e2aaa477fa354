import os
import socket
import stat
from pathlib import Path

import pytest

from d3gan.errors import ConfigError, ExternalError
from d3gan.files import disk_errors, kind_of, open_file, read_file, replace_file, user_path, write_text
from d3gan.runs.jsonl import keep_lines_up_to


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text(path, "one")
    write_text(path, "zwölf")
    assert path.read_bytes() == "zwölf".encode()
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]
    plain = tmp_path / "plain"
    plain.write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode), "as readable as other files"


def test_what_fails_half_way_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), replace_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExternalError, match=r"file/a\.txt: .*; check that it is there and permitted"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_lines_after_a_step_and_broken_lines_go(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    keep_lines_up_to(path, 3)
    assert not path.exists()
    path.write_text('{"step": 1}\n{"step": 3}\n{"step": 4}\nnot json\n[]\n{"step": 2')
    keep_lines_up_to(path, 3)
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n'


@pytest.mark.skipif(os.name != "posix", reason="FIFOs, sockets, devices")
@pytest.mark.parametrize("kind", ["a FIFO", "a socket", "a device", "a folder", "a link to nothing"])
def test_only_regular_files_are_opened(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    path = Path("x")
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("x")
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "a device" else "nowhere")
    assert kind_of(path) == kind
    with pytest.raises(ExternalError, match=rf"x: is {kind}"), disk_errors(path):
        open_file(path)


@pytest.mark.skipif(os.name != "posix", reason="FIFOs")
def test_a_file_that_becomes_a_fifo_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "x")
    status = Path(__file__).stat()
    monkeypatch.setattr(Path, "stat", lambda _path: status)
    with pytest.raises(OSError, match="is a FIFO"):
        open_file(tmp_path / "x")


def test_a_limit_is_kept(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(1000))
    assert read_file(tmp_path / "x", 1000) == bytes(1000)
    with pytest.raises(OSError, match="longer than 999 bytes"):
        read_file(tmp_path / "x", 999)


def test_what_no_path_can_be_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kind_of(tmp_path / "a\0b") == kind_of(tmp_path / "gone") == ""
    with pytest.raises(ExternalError, match="File name too long"):
        kind_of(tmp_path / ("x" * 5000))
    with pytest.raises(ConfigError, match="write the whole path"):
        user_path("~nobody-of-that-name/x")
