"""What is read from runs while they train."""

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from d3gan.runs.opening import locked_files
from d3gan.watch.page import LivePage, facts_of, values_of
from d3gan.watch.runs import MOST_LINES, Lines, WatchedFolder, WatchedRun
from tests.report.synthetic import STEPS, write_run


def looked(folder: WatchedFolder) -> WatchedRun:
    folder.look()
    (run,) = folder.runs
    return run


def trained_here(path: Path) -> None:
    """Has the run's last session be one of this machine."""
    file = path / "environment.json"
    document = json.loads(file.read_text())
    document["sessions"][-1]["processes"] = [{"host": socket.gethostname(), "device": "cpu"}]
    file.write_text(json.dumps(document))


def cut(path: Path, lines: int) -> None:
    """Leaves the first lines of metrics.jsonl and no evaluation, as of a run that is not done."""
    file = path / "metrics.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:lines]))
    (path / "evaluations.jsonl").write_text("")


def age(path: Path, seconds: float) -> None:
    for file in (path, *path.rglob("*")):
        os.utime(file, (time.time() - seconds,) * 2)


def test_a_finished_run(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", grids=2)
    run = looked(WatchedFolder(path))
    assert (run.step, run.last_step, run.seconds_left) == (STEPS, STEPS, None)
    age(path, 4000)
    run = looked(WatchedFolder(path))
    assert run.state == "finished"
    assert [grid.step for grid in run.grids] == [0, 1200]
    assert run.size == (274, 274)
    facts = dict(facts_of(run))
    assert facts["step"] == "1,200 of 1,200"
    assert facts["model, data"] == "d3gan, mnist"
    assert facts["FID (efficientnet-lite0, train)"].startswith("18.0 at step 1,200")
    columns, (row,) = values_of([run])
    assert row[columns.index("weights")].count(",") == 1
    # A last step without its evaluation is not the end.
    (path / "evaluations.jsonl").write_text("")
    age(path, 4000)
    assert looked(WatchedFolder(path)).state == "stopped?"


def test_a_run_at_half_its_way_says_how_long_it_takes(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", model="dcgan", grids=2)
    cut(path, 6)
    run = looked(WatchedFolder(path))
    assert (run.state, run.step, run.last_step) == ("training", 600, 1200)
    assert run.seconds_left == pytest.approx(600 * 128 / 2000)
    assert dict(facts_of(run))["training left"] == "about 0:00:38"


HOLD = """
import sys, time, filelock
lock = filelock.FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(99)
"""


@pytest.mark.skipif(locked_files() is None, reason="this system lists no locks")
def test_the_lock_says_whether_a_process_trains_the_run_and_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcntl.flock", None)  # a run that begins just then would be refused
    path = write_run(tmp_path / "run", grids=2)
    cut(path, 6)
    trained_here(path)
    age(path, 10)
    assert looked(WatchedFolder(path)).state == "stopped"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path / ".lock")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        age(path, 4000)  # an evaluation may take long
        assert looked(WatchedFolder(path)).state == "training"
    finally:
        process.kill()
        process.communicate()
    assert looked(WatchedFolder(path)).state == "stopped"


def test_of_a_run_elsewhere_the_age_of_its_files_counts(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", grids=2)
    cut(path, 6)
    age(path, 10)
    folder = WatchedFolder(path)
    assert looked(folder).state == "training"
    age(path, 4000)
    assert looked(folder).state == "stopped?"


def test_lines_of_an_earlier_checkpoint_replace_those_after_it(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", model="dcgan", grids=2)
    folder = WatchedFolder(path)
    assert looked(folder).step == 1200
    cut(path, 4)
    run = looked(folder)
    assert run.step == 400
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 500, "generator_loss": 7.5}\n{"step": 600, "gen')
    run = looked(folder)
    assert (run.step, run.metrics.last["generator_loss"]) == (500, 7.5)


def test_runs_come_and_go(tmp_path: Path) -> None:
    folder = WatchedFolder(tmp_path)
    folder.look()
    assert folder.runs == []
    write_run(tmp_path / "runs" / "a", grids=1)
    assert looked(folder).name == "a"
    write_run(tmp_path / "runs" / "b", grids=1)
    folder.look()
    assert [run.name for run in folder.runs] == ["a", "b"]
    shutil.rmtree(tmp_path / "runs" / "a")
    assert looked(folder).name == "b"
    write_run(tmp_path / "sweep" / "runs" / "c", grids=1)
    folder.look()
    assert [run.name for run in folder.runs] == ["b", "c"], "at any depth, as `d3gan runs` lists them"
    shutil.rmtree(tmp_path / "runs")
    shutil.rmtree(tmp_path / "sweep")
    folder.look()
    assert folder.runs == []


def test_a_sample_grid_that_is_written_anew_has_another_address(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", grids=2)
    folder = WatchedFolder(path)
    before = looked(folder).grids
    grid = path / "samples" / "step-00001200.png"
    grid.with_suffix(".tmp").write_bytes(grid.read_bytes() + b"more")
    grid.with_suffix(".tmp").replace(grid)
    after = looked(folder).grids
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_of_many_lines_a_few_hundred_and_the_last_are_remembered() -> None:
    lines = Lines()
    for step in range(1, 10_001):
        lines.add({"step": step})
    steps = [line["step"] for line in lines]
    assert len(steps) <= MOST_LINES + 1
    assert (steps[0], steps[-1], lines.last["step"]) == (1, 10_000, 10_000)
    assert max(b - a for a, b in itertools.pairwise(steps)) <= 32
    lines.add({"step": 5})
    lines.add({"step": "x"})
    assert lines.last["step"] == 10_000


HOSTILE: list[dict[str, Any]] = [
    {"step": 1, "epoch": "x", "weights": "abc", "real_losses": [None, "x", [1]], "generator_loss": float("nan")},
    {
        "step": 2,
        "epoch": 0,
        "weights": [1e999] * 5,
        "agreement": {},
        "images_per_second": 0,
        "generator_loss": 10**400,
    },
    {"step": 3, "weights": [], "real_losses": 5, "images_per_second": True, "fid_x_y": "<b>", "kl_ring8": [1]},
    {"step": 10**400},
]


def test_whatever_a_file_holds_the_page_is_made(tmp_path: Path) -> None:
    path = write_run(tmp_path / "<b>run&", grids=1)
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        (path / name).write_text("".join(json.dumps(line) + "\n" for line in HOSTILE))
        for n in range(1, len(HOSTILE) + 1):
            (path / name).write_text("".join(json.dumps(line) + "\n" for line in HOSTILE[:n]))
            html = LivePage(path).html()
            assert "&lt;b&gt;run&amp;" in html
            assert "<b>run" not in html
    (path / "config.ini").write_text(
        "# Written by d3gan: the config of the run in this folder.\n[parameters]\nlr = x\n"
    )
    assert "Its config.ini cannot be read." in LivePage(path).html()
