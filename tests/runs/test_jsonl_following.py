"""metrics.jsonl read on from where the last look ended."""

import json
from pathlib import Path

import pytest

from d3gan.runs import jsonl
from d3gan.runs.jsonl import FollowedLines, keep_lines_up_to


def append(path: Path, *steps: int, ending: str = "\n") -> None:
    with path.open("a") as file:
        file.write("".join(json.dumps({"step": step, "loss": step / 7}) + "\n" for step in steps)[:-1] + ending)


def read(lines: FollowedLines) -> tuple[bool, list[int]]:
    anew, records = lines.read()
    return anew, [record["step"] for record in records]


def test_only_new_lines_come_and_a_torn_one_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = FollowedLines(path)
    assert read(lines) == (False, [])
    append(path, 1, 2)
    assert read(lines) == (False, [1, 2])
    assert read(lines) == (False, [])
    append(path, 3, ending="")
    assert read(lines) == (False, [])
    with path.open("a") as file:
        file.write("\nno line of ours\n")
    append(path, 4)
    assert read(lines) == (False, [3, 4])


def test_an_unchanged_file_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    append(path, 1)
    lines = FollowedLines(path)
    assert read(lines) == (False, [1])
    monkeypatch.setattr(jsonl, "open_file", None)
    assert read(lines) == (False, [])


def test_a_resumed_runs_file_is_read_anew_only_where_lines_were_lost(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append(path, 1, 2, 3, 4)
    lines = FollowedLines(path)
    assert read(lines) == (False, [1, 2, 3, 4])
    keep_lines_up_to(path, 2)  # another file of that name
    assert read(lines) == (True, [1, 2])
    append(path, 3)
    assert read(lines) == (False, [3])
    path.write_bytes(path.read_bytes())  # the same lines in a file written anew
    append(path, 4)
    assert read(lines) == (False, [4])
    # Replaced between two looks by one that is as long already.
    path.write_text("")
    append(path, 1, 2, 5, 6)
    assert read(lines) == (True, [1, 2, 5, 6])


def test_a_removed_file_voids_its_lines_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append(path, 1)
    lines = FollowedLines(path)
    read(lines)
    path.unlink()
    assert read(lines) == (True, [])
    assert read(lines) == (False, [])
    path.mkdir()
    assert read(lines) == (False, [])
    path.rmdir()
    append(path, 1)
    assert read(lines) == (False, [1])


def test_a_long_file_comes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    append(path, *range(1, 50))
    monkeypatch.setattr(jsonl, "_READ_BYTES", 200)
    lines, steps = FollowedLines(path), []
    while part := read(lines)[1]:
        assert len(part) < 10
        steps += part
    assert steps == list(range(1, 50))
    path.write_text("x" * 450 + "\n")  # longer than any line of ours: passed over
    append(path, 7)
    assert [read(lines) for _ in range(4)] == [(True, []), (False, []), (False, [7]), (False, [])]
