import stat
from pathlib import Path

import pytest

from d3gan.errors import ExternalError
from d3gan.files import replace_file, write_text
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
