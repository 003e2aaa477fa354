"""Whole runs of several processes: what they leave behind, and what becomes of them when something goes wrong."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from d3gan import TrainConfig, train
from d3gan.runs.checkpoint import checkpoints, load_checkpoint
from d3gan.runs.jsonl import read_lines
from tests.conftest import tiny_settings
from tests.distributed.processes import ROOT, free_port, launch, torchrun, wait_for, workers
from tests.evaluation.networks import save_only_varied
from tests.training.test_loop import assert_same_run, metrics

SLOW = pytest.mark.slow
EPOCHS = 60  # of 5 steps with two processes


def words(pictures: Path, out: Path, **changes: Any) -> list[str]:
    settings = tiny_settings(pictures, out, epochs=EPOCHS, checkpoint=20, log_every=7, precision="float64") | changes
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    launcher = launch(["--workers-per-node=2", *words(pictures, folder / "run")], folder / "log")
    assert launcher.wait(100) == 0, (folder / "log").read_text()
    return folder / "run"


@pytest.fixture
def started(pictures: Path, tmp_path: Path) -> Iterator[Any]:
    """Starts launchers and ends whatever is left of them."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*flags: str, **changes: Any) -> subprocess.Popen[bytes]:
        running.append(launch([*flags, *words(pictures, tmp_path / "run", **changes)], tmp_path / "log"))
        return running[-1]

    yield start
    for launcher in running:
        if launcher.poll() is None:
            for process in workers(launcher).values():
                process.kill()
            launcher.kill()
            launcher.wait()


def last_step(run: Path) -> int:
    text = (run / "metrics.jsonl").read_text() if (run / "metrics.jsonl").exists() else ""
    lines = text[: text.rfind("\n") + 1].splitlines()  # without one that is being written
    return int(json.loads(lines[-1])["step"]) if lines else 0


def test_a_run_leaves_its_files_once(whole: Path) -> None:
    lines = metrics(whole)
    assert [line["step"] for line in lines] == [*range(7, 300, 7), 300]
    for line in lines:
        assert line["images_seen"] == 8 * line["step"]
        assert line["global_batch_size"] == 8
        assert line["epoch"] == pytest.approx(line["step"] / 5)
    (session,) = json.loads((whole / "environment.json").read_text())["sessions"]
    assert (session["world_size"], len(session["processes"])) == (2, 2)
    log = (whole.parent / "log").read_text()
    assert log.count("done: 300 steps") == log.count("run directory") == 1
    assert "batch size 4 x 2 processes: 8 images per step" in log


def test_the_same_run_by_one_process_two_or_four_batches(
    whole: Path, pictures: Path, tmp_path: Path, started: Any, said: list[str]
) -> None:
    one = train(TrainConfig(**settings(pictures, tmp_path / "one", grad_accum_steps=2, max_steps=20))).run
    state, expected = (load_checkpoint(checkpoints(run / "checkpoints")[-1]) for run in (one, whole))
    assert (state["batches_per_step"], expected["batches_per_step"]) == (2, 2)
    for ours, theirs in zip(metrics(one)[:2], metrics(whole)[:2], strict=True):
        for name, value in ours.items():
            assert value == pytest.approx(theirs[name], abs=1e-6), name  # kept in float32
    # Four batches: two processes with two each, then one with four goes on where they stopped.
    launcher = started("--workers-per-node=2", grad_accum_steps=2, batch_size=2, max_steps=6)
    assert launcher.wait(60) == 0, (tmp_path / "log").read_text()
    said.clear()
    four: Any = dict(grad_accum_steps=4, batch_size=2, max_steps=9)
    train(TrainConfig(**settings(pictures, tmp_path / "run", **four)))
    assert any("world_size 2 -> 1" in line for line in said)
    alone = train(TrainConfig(**settings(pictures, tmp_path / "alone", **four))).run
    a, b = (load_checkpoint(checkpoints(run / "checkpoints")[-1]) for run in (tmp_path / "run", alone))
    for part in ("generator", "discriminators"):
        for key, value in a[part].items():
            if value.is_floating_point():
                torch.testing.assert_close(value, b[part][key], rtol=0, atol=1e-10, msg=key)


def settings(pictures: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return tiny_settings(pictures, out, epochs=EPOCHS, checkpoint=20, log_every=7, precision="float64") | changes


@pytest.mark.parametrize(
    ("rank", "moment"),
    [(1, "early"), pytest.param(0, "saving", marks=SLOW), pytest.param(1, "late", marks=SLOW)],
)
def test_a_killed_rank_changes_nothing(rank: int, moment: str, whole: Path, tmp_path: Path, started: Any) -> None:
    run = tmp_path / "run"
    launcher = started("--workers-per-node=2", "--max-restarts=2")
    if moment == "early":  # before there is any checkpoint
        wait_for(lambda: (run / "config.ini").exists())
    elif moment == "saving":
        wait_for(lambda: any((run / "checkpoints").glob("*.tmp")))
    else:
        wait_for(lambda: last_step(run) > 150)
    workers(launcher)[rank].kill()
    assert launcher.wait(100) == 0, (tmp_path / "log").read_text()
    assert "restart 1 of 2" in (tmp_path / "log").read_text()
    assert_same_run(whole, run)


def test_a_killed_rank_without_restarts_is_named(tmp_path: Path, started: Any) -> None:
    launcher = started("--workers-per-node=2", epochs=10000)
    wait_for(lambda: last_step(tmp_path / "run") > 0)
    victim = workers(launcher)[1]
    victim.kill()
    assert launcher.wait(60) == 1
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last.startswith(f"d3gan: error: rank 1 (pid {victim.pid}) was ended by SIGKILL")


@pytest.mark.parametrize("whom", ["rank 0", *(pytest.param(whom, marks=SLOW) for whom in ("launcher", "rank 1"))])
def test_sigterm_stops_all_on_one_step_with_one_checkpoint(
    whom: str, whole: Path, tmp_path: Path, started: Any
) -> None:
    run = tmp_path / "run"
    launcher = started("--workers-per-node=2", "--max-restarts=5")
    wait_for(lambda: last_step(run) > 20)
    if whom == "launcher":
        launcher.send_signal(signal.SIGTERM)
    else:
        workers(launcher)[int(whom[-1])].send_signal(signal.SIGTERM)
    assert launcher.wait(60) == 143, (tmp_path / "log").read_text()
    log = (tmp_path / "log").read_text()
    (step,) = re.findall(
        r"stopped by SIGTERM at step (\d+); saved\. Resume with: d3gan train --workers-per-node=2", log
    )
    steps = [int(path.stem.removeprefix("step-")) for path in checkpoints(run / "checkpoints")]
    assert steps[-1] == int(step) < 300
    assert steps[0] % 20 == 0, "one checkpoint more, not one a rank"
    if whom == "rank 0":
        return  # going on takes long, and is the same for all of them
    assert started("--workers-per-node=2").wait(100) == 0
    assert_same_run(whole, run)


@pytest.mark.slow
def test_three_processes_go_on_bit_for_bit(pictures: Path, tmp_path: Path) -> None:
    """Of three numbers, unlike two, the sum depends on the order: gradients must lie as in a run without a stop.

    In one process each, so that it is tested too that these may train several runs.
    """
    runs: list[tuple[str, dict[str, Any]]] = [("whole", {}), ("parts", {"max_steps": 7}), ("parts", {})]
    told = [settings(pictures, tmp_path / out, precision="float32", epochs=6, **changes) for out, changes in runs]
    command = [*torchrun(3), "-m", "tests.distributed.several_runs", *map(json.dumps, told)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
def test_what_must_fail_again_is_not_tried_again(tmp_path: Path, started: Any) -> None:
    for changes, code, message in (
        ({"lr": 1e30}, 1, r"error: step \d+: .* last good checkpoint|error: step \d+: .* no checkpoint yet"),
        ({"batch_size": 1000}, 2, r"error: .*1000"),
    ):
        (tmp_path / "log").unlink(missing_ok=True)
        assert started("--workers-per-node=2", "--max-restarts=3", **changes).wait(100) == code
        log = (tmp_path / "log").read_text()
        assert re.search(message, log.splitlines()[-1]), log
        assert log.count("error:") == 1
        assert "restart 1" not in log


def test_a_stopped_rank_ends_the_job_with_its_name(tmp_path: Path, started: Any) -> None:
    launcher = started("--workers-per-node=2", timeout=4, epochs=10000)
    wait_for(lambda: last_step(tmp_path / "run") > 0)
    victim = workers(launcher)[1]
    victim.suspend()
    assert launcher.wait(30) == 1
    last = (tmp_path / "log").read_text().splitlines()[-1]
    told = rf"step \d+: rank 0 has made no progress for 4 s: rank 1 \(pid {victim.pid} on .*\) has gone silent"
    assert re.search(told, last), last
    assert not victim.is_running() or victim.status() == "zombie"


def test_workers_whose_launcher_is_gone_save_and_end(tmp_path: Path, started: Any) -> None:
    launcher = started("--workers-per-node=2", epochs=10000)
    wait_for(lambda: last_step(tmp_path / "run") > 0)
    left = workers(launcher).values()
    launcher.kill()
    launcher.wait()
    for process in left:
        process.wait(30)
    assert "stopped by SIGTERM at step" in (tmp_path / "log").read_text()


def by_hand(flags: list[list[str]], port: int = 0) -> list[subprocess.CompletedProcess[str]]:
    """Processes started one by one, as a cluster's own starter would, each with flags of its own."""
    port = port or free_port()
    running = []
    for rank, own in enumerate(flags):
        own_environment = {"RANK": str(rank), "WORLD_SIZE": str(len(flags)), "LOCAL_RANK": str(rank)}
        environment = os.environ | own_environment | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, "-m", "d3gan", "train", *own]
        pipes: dict[str, Any] = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(subprocess.Popen(command, env=environment, cwd=ROOT, **pipes))
    done = []
    for process in running:
        out, err = process.communicate(timeout=60)
        done.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    return done


@pytest.mark.slow
def test_a_port_that_is_taken_is_told(pictures: Path, tmp_path: Path) -> None:
    """By whatever does not answer: process 0 cannot listen there, the others wait in vain."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        first, second = by_hand([words(pictures, tmp_path / "run", timeout=1)] * 2, port)
    assert (first.returncode, second.returncode) == (1, 1)
    assert f"error: 127.0.0.1:{port}: cannot join the other processes there (" in first.stderr
    assert "EADDRINUSE" in first.stderr
    assert f"error: 127.0.0.1:{port}: " in second.stderr
    assert len(first.stderr.splitlines()) == len(second.stderr.splitlines()) == 1


def test_unequal_configs_end_all_ranks_with_one_line(pictures: Path, tmp_path: Path) -> None:
    flags = [words(pictures, tmp_path / "run", batch_size=size) for size in (4, 2)]
    for done in by_hand(flags):
        assert done.returncode == 2
        assert re.search(r"error: batch_size = 2 in rank 1 on .*, 4 in rank 0", done.stderr)
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_one_ranks_mistake_is_everyones(pictures: Path, tmp_path: Path) -> None:
    flags = [words(path, tmp_path / "run") for path in (pictures, tmp_path / "nowhere")]
    for done in by_hand(flags):
        assert done.returncode == 2
        assert "error: rank 1 on" in done.stderr
        assert "nowhere: is neither a known name nor an existing path" in done.stderr


def test_other_images_in_one_rank_are_found_out(pictures: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(pictures, tmp_path / "other")
    shutil.copy(pictures / "000.png", tmp_path / "other" / "001.png")
    flags = [words(path, tmp_path / "run") for path in (pictures, tmp_path / "other")]
    for done in by_hand(flags):
        assert done.returncode == 2
        assert "error: checksum of the images" in done.stderr


def test_torchrun_runs_it_too_and_a_mistake_is_said_once(pictures: Path, tmp_path: Path) -> None:
    def run(*flags: str) -> subprocess.CompletedProcess[str]:
        command = [*torchrun(2), "train_ddp.py", *words(pictures, tmp_path / "run", max_steps=2), *flags]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)

    done = run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done: 2 steps") == 1
    done = run("--seed=7")
    assert done.returncode != 0
    assert len([line for line in done.stderr.splitlines() if line.startswith("python train_ddp.py: error")]) == 1


def test_evaluations_are_shared_out_and_written_once(
    pictures: Path,
    tmp_path: Path,
    started: Any,
    network: Path,
) -> None:
    wanted = dict(evaluate_every=3, num_samples=563, metrics="fid,is,kid,prdc", ema=0.9)
    changes: Any = wanted | dict(features=str(network), max_steps=6)
    launcher = started("--workers-per-node=2", **changes)
    assert launcher.wait(100) == 0, (tmp_path / "log").read_text()
    run = tmp_path / "run"
    one = settings(pictures, tmp_path / "one", grad_accum_steps=2) | changes
    expected = read_lines(train(TrainConfig(**one)).run / "evaluations.jsonl")
    found = read_lines(run / "evaluations.jsonl")
    assert [line["step"] for line in found] == [3, 6]
    assert [line["images_seen"] for line in found] == [24, 48]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            if isinstance(value, float) and not name.endswith("seconds"):
                # An image whose pixel lies at a rounding's edge may fall on its other side.
                assert value == pytest.approx(theirs[name], rel=1e-3, abs=1e-4), name
    assert (run / "generator-best.safetensors").exists()


def test_an_evaluation_that_fails_on_rank_0_alone_ends_no_rank(tmp_path: Path, started: Any) -> None:
    """Rank 0 takes in the features: it finds them unusable while rank 1 computes the next ones."""
    program = save_only_varied(tmp_path / "varied.pt")
    launcher = started("--workers-per-node=2", evaluate_every=3, num_samples=900, features=str(program), max_steps=6)
    assert launcher.wait(100) == 0, (tmp_path / "log").read_text()
    found = read_lines(tmp_path / "run" / "evaluations.jsonl")
    assert [line["step"] for line in found] == [3, 6]
    assert all("NaN or infinite" in line["not_computed"]["fid"] for line in found)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--nnodes=2"], 2, "--nnodes above 1: needs --rdzv-endpoint HOST:PORT"),
        (["--max-restarts=2"], 2, "--max-restarts: goes with --workers-per-node"),
        (["--workers-per-node=-1"], 2, "workers_per_node = -1: must be from 0 to 1024"),
        (["--workers-per-node=some"], 2, "must be a whole number, or auto"),
        (["--workers-per-node=2", "--rdzv-endpoint=host"], 2, "--rdzv-endpoint host: must be HOST:PORT"),
        (["--workers-per-node=2", "--nnodes=2", "--rdzv-endpoint=no.invalid:2000"], 1, "cannot resolve no.invalid"),
    ],
)
def test_a_launchers_mistakes_get_one_line(flags: list[str], code: int, message: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "d3gan", "train", *flags, f"--out={tmp_path / 'run'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_hosts_that_do_not_come_are_not_waited_for_for_ever(tmp_path: Path) -> None:
    flags = ["--workers-per-node=1", "--nnodes=2", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--timeout=3"]
    command = [sys.executable, "-m", "d3gan", "train", *flags, f"--out={tmp_path / 'run'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "the processes did not find one another there" in done.stderr
    assert len(done.stderr.splitlines()) == 1


STOPPING = """
import json, sys
from d3gan import TrainConfig, train

def stop(line):
    if line["step"] == 6:
        raise ValueError("enough")

try:
    train(TrainConfig(**json.loads(sys.argv[1])), on_tick=stop)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


@SLOW
def test_what_on_tick_raises_on_rank_0_stops_both_and_damaged_files_are_left_out_alike(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(32):
        Image.new("RGB", (16, 16), (i, 0, 0)).save(folder / f"{i}.png")
    (folder / "bad.png").write_bytes(b"")
    config = tiny_settings(
        folder, tmp_path / "run", checkpoint=100, skip_damaged=True, data_dir=str(tmp_path / "data")
    )
    (tmp_path / "stopping.py").write_text(STOPPING)
    command = [*torchrun(2), str(tmp_path / "stopping.py"), json.dumps(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "ValueError: enough" in done.stdout
    assert "PeerLostError: rank 0: on_tick raised ValueError (enough); step 7 is saved" in done.stdout
    assert [path.name for path in checkpoints(tmp_path / "run/checkpoints")] == ["step-00000007.pt"]
    assert done.stdout.count("1 of 33 images cannot be read") == 1, "rank 0 says it"
