"""``d3gan compare`` with real runs: found, interrupted, resumed, failed."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from d3gan import train
from d3gan.cli import main
from d3gan.comparison.runs import read_runs
from d3gan.config.ini import load_config
from d3gan.runs.checkpoint import load_checkpoint
from d3gan.runs.directory import checkpoint_path
from tests.conftest import tiny_settings

RUNS = [f"pictures-{model}-b4-s{seed}" for seed in (0, 1) for model in ("dcgan", "d3gan")]


@pytest.fixture
def pictures_here(pictures: Path, tmp_path: Path) -> Path:
    """The images under a name that runs are called by."""
    return shutil.copytree(pictures, tmp_path / "pictures")


@pytest.fixture
def words(pictures_here: Path, tmp_path: Path, network: Path) -> list[str]:
    settings = tiny_settings(pictures_here, tmp_path / "out", evaluate_every=4, num_samples=20, features=str(network))
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    return ["compare", *flags, "--models", "dcgan", "d3gan", "--seeds", "0", "1", "--at-once=2"]


def test_a_sweep_from_the_command_to_the_page(
    words: list[str], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d3gan.sweep.scheduler._LINE_SECONDS", 0.2)
    assert main(words) == 0
    output = capsys.readouterr().out
    for name in RUNS:
        assert f"\n{name}: starting\n" in output, "each run has a line from time to time"
    out = tmp_path / "out"
    assert sorted(path.name for path in (out / "runs").iterdir()) == sorted(RUNS)
    found = json.loads((out / "comparison.json").read_text())
    assert found["paired"][0]["seeds"] == [0, 1]
    assert found["verdict"] in output
    assert f"the page: {out / 'report.html'}" in output
    assert "<svg" in (out / "report.html").read_text()
    with Image.open(out / "animations" / "pictures-b4.webp") as animation:
        assert animation.n_frames == 7  # type: ignore[attr-defined]  # steps 0, 4, 8, 12, 16, 20, 22
    assert {path.suffix for path in (out / "figures").iterdir()} == {".png", ".svg"}

    # Again: everything is found, nothing is trained.
    written = (out / "runs" / RUNS[0] / "environment.json").read_text()
    assert main(words) == 0
    output = capsys.readouterr().out
    assert all(f"{name}: already finished" in output for name in RUNS)
    assert (out / "runs" / RUNS[0] / "environment.json").read_text() == written
    assert main([*words, "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{name}: finished" for name in RUNS]


@pytest.mark.slow
def test_variants_keep_their_names_from_the_command_to_the_page(
    words: list[str], tmp_path: Path, capsys: Any
) -> None:
    """Also those that change what a run may change when it goes on, and where most runs have the changed value."""
    names = [
        "dcgan",
        "dcgan+grad_accum_steps=2",
        "dcgan+cuda_graph=off",
        "d3gan+cuda_graph=off+lr=1e-05",
    ]
    names[-1] = "d3gan+lr=1e-05+cuda_graph=off"
    asked = [
        "--models",
        *names[:-1],
        "d3gan+cuda_graph=off+lr=1e-5",
        "--seeds=0",
        "--max-steps=8",
        "--evaluate-every=8",
    ]
    assert main([*words, *asked, "--against=dcgan"]) == 0
    out = tmp_path / "out"
    folders = {name: f"pictures-{name}-b4-s0" for name in names}
    assert {path.name for path in (out / "runs").iterdir()} == set(folders.values())
    (condition,) = json.loads((out / "comparison.json").read_text())["conditions"]
    assert {name: Path(found["runs"]["0"]).name for name, found in condition["variants"].items()} == folders
    paired = json.loads((out / "comparison.json").read_text())["paired"]
    assert {c["variant"] for c in paired} == set(names[1:]), "all are compared with dcgan"
    assert {run.variant for run in read_runs([out / "runs" / folder for folder in folders.values()])} == set(names)
    assert main(["report", str(out), "--against=dcgan"]) == 0
    page = (out / "report.html").read_text()
    assert all(name in page for name in names)
    capsys.readouterr()
    assert main([*words, *asked, "--dry-run"]) == 0
    assert capsys.readouterr().out.count(": finished") == len(names)


@pytest.mark.slow
def test_a_baseline_that_failed_hides_nothing(words: list[str], tmp_path: Path, capsys: Any) -> None:
    blocked = tmp_path / "out" / "runs" / RUNS[0]
    blocked.mkdir(parents=True)
    (blocked / "thesis.tex").write_text("mine")
    assert main([*words, "--seeds=0", "--max-steps=4", "--against=dcgan"]) == 1
    captured = capsys.readouterr()
    assert f"1 failed: {RUNS[0]}" in captured.err
    assert "dcgan: has no evaluated run, so the others are compared as without --against" in captured.out
    assert (tmp_path / "out" / "report.html").exists()


def test_a_failed_run_is_named_and_the_others_go_on(words: list[str], tmp_path: Path, capsys: Any) -> None:
    blocked = tmp_path / "out" / "runs" / RUNS[1]
    blocked.mkdir(parents=True)
    (blocked / "thesis.tex").write_text("mine")
    torn = tmp_path / "out" / "runs" / RUNS[2] / "checkpoints"
    torn.mkdir(parents=True)
    (torn / "step-00000004.pt").write_text("no checkpoint")
    (torn.parent / "config.ini").write_text(
        "# Written by d3gan: the config of the run in this folder.\n[parameters]\nseed = 9\n"
    )
    damaged = tmp_path / "out" / "runs" / RUNS[3]
    (damaged / "checkpoints").mkdir(parents=True)
    (damaged / "config.ini").write_text("# Written by d3gan: the config of the run in this folder.\nnothing")
    assert main([*words, "--dry-run"]) == 0
    assert f"{RUNS[1]}: blocked: --out" in capsys.readouterr().out
    assert main(words) == 1
    captured = capsys.readouterr()
    assert f"{RUNS[1]}: FAILED: error: --out {blocked}: is not empty and holds no run" in captured.out
    assert "holds a run of another config" in captured.out
    assert "config.ini: cannot be read" in captured.out
    assert f"3 failed: {RUNS[1]}, {RUNS[2]}, {RUNS[3]}" in captured.err
    assert (blocked / "thesis.tex").read_text() == "mine"
    assert (tmp_path / "out" / "report.html").exists()
    assert {Path(p).name for p in _compared(tmp_path / "out")} == {RUNS[0]}


def _compared(out: Path) -> list[str]:
    settings = json.loads((out / "comparison.json").read_text())["conditions"]
    return [path for s in settings for variant in s["variants"].values() for path in variant["runs"].values()]


def test_a_run_that_dies_is_named_with_its_last_words(words: list[str], tmp_path: Path, capsys: Any) -> None:
    assert main([*words, "--lr=1e30", "--seeds=0", "--models=dcgan"]) == 1
    captured = capsys.readouterr()
    assert "FAILED: error: step" in captured.out
    assert str(tmp_path / "out/logs/pictures-dcgan-b4-s0.log") in captured.out
    assert not (tmp_path / "out" / "report.html").exists(), "there is nothing to compare"


@pytest.mark.slow
def test_an_interrupted_sweep_is_resumed(words: list[str], tmp_path: Path, capsys: Any) -> None:
    longer = [*words, "--epochs=400", "--models=dcgan", "--seeds", "0", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "d3gan", *longer],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=dict(os.environ),
    )
    logs = [tmp_path / f"out/runs/pictures-dcgan-b4-s{seed}/metrics.jsonl" for seed in (0, 1)]
    deadline = time.monotonic() + 60
    while not all(log.exists() and log.read_text() for log in logs) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped by SIGINT; what was trained is saved. Resume with: d3gan compare" in output
    assert output.count(": stopped at step ") == 2
    for log in logs:
        assert json.loads(log.read_text().splitlines()[-1])["step"] < 4400, "not at its end"
    before = [json.loads(log.read_text().splitlines()[-1])["step"] for log in logs]
    shorter = [*words, f"--max-steps={max(before) + 3}", "--epochs=400", "--models=dcgan", "--seeds", "0", "1"]
    assert main(shorter) == 0
    output = capsys.readouterr().out
    assert output.count(": resumed at step ") == 2
    for seed in (0, 1):
        resumed = tmp_path / f"out/runs/pictures-dcgan-b4-s{seed}"
        straight = tmp_path / f"straight-{seed}"
        train(dataclasses.replace(load_config(resumed / "config.ini"), out=str(straight)))
        one, other = (
            load_checkpoint(checkpoint_path(folder / "checkpoints", max(before) + 3))["generator"]
            for folder in (resumed, straight)
        )
        assert all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only POSIX gives an orphan another parent")
def test_the_runs_of_a_killed_sweep_save_themselves_and_the_next_one_goes_on(
    words: list[str], tmp_path: Path
) -> None:
    longer = [*words, "--epochs=100000", "--models=dcgan", "--seeds=0", "--evaluate-every=1000000"]
    run = tmp_path / "out" / "runs" / RUNS[0]
    command = [sys.executable, "-m", "d3gan", *longer]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sweep:
        while not (run / "metrics.jsonl").exists():
            time.sleep(0.1)
        sweep.kill()
    # The next sweep waits for the run that still saves itself, and takes it over; --max-steps ends it soon.
    log = tmp_path / "out" / "logs" / f"{RUNS[0]}.log"
    while "saved" not in log.read_text():
        time.sleep(0.1)
    step = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert main([*longer, f"--max-steps={step + 3}"]) == 0
    assert "the comparison that started this run has ended" in log.read_text()
    assert checkpoint_path(run / "checkpoints", step + 3).exists()


def test_a_run_that_another_process_trains_is_waited_for(words: list[str], tmp_path: Path, said: list[str]) -> None:
    from filelock import FileLock

    run = tmp_path / "out" / "runs" / RUNS[0]
    run.mkdir(parents=True)
    # FileLock counts by thread: released by another one, it would stay locked.
    lock = FileLock(run / ".lock", thread_local=False)
    lock.acquire()
    threading.Timer(3.0, lock.release).start()
    assert main([*words, "--models=dcgan", "--seeds=0"]) == 0
    assert f"{RUNS[0]}: another process trains it; waiting until that ends" in said
    assert checkpoint_path(run / "checkpoints", 22).exists()
