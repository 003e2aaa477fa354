"""Disturbs runs of two processes at random, and compares their results with those of an undisturbed run.

    python benchmarks/soak.py [--times 20] [--kinds kill,saving] [--seed 0]

kill: SIGKILL to a random rank at a random moment, with --max-restarts. saving: SIGKILL to rank 0 while it writes a
checkpoint. term-launcher, term-worker: SIGTERM, then the same command again. stop: SIGSTOP to a random rank, which
must end the job within its --timeout, then the same command again. Every run must end with the same bits as the
undisturbed one: weights, optimizers, metrics, samples. The exit code is 1 if one does not.
"""

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from d3gan.runs.checkpoint import checkpoints, load_checkpoint

IMAGES, STEPS, TIMEOUT = 44, 400, 5
CLOCKS = ("images_per_second", "images_per_second_without_data", "training_seconds", "peak_memory_bytes")
STOPPED = re.compile(r"stopped by SIGTERM at step (\d+); saved")


def command(folder: Path, run: Path, *flags: str) -> list[str]:
    """The command of a run of two processes that takes some seconds."""
    words = [
        f"--dataset={folder / 'images'}",
        f"--data-dir={folder}",
        f"--out={run}",
        "--image-size=16",
        "--batch-size=4",
    ]
    words += [
        "--nz=6",
        "--ngf=4",
        "--ndf=4",
        "--device=cpu",
        "--precision=float32",
        "--checkpoint=20",
        "--log-every=7",
    ]
    words += [f"--epochs={STEPS // 5}", f"--timeout={TIMEOUT}", "--ema=0.9", *flags]
    return [sys.executable, "-m", "d3gan", "train", "--workers-per-node=2", *words]


def start(words: list[str], log: Path) -> "subprocess.Popen[bytes]":
    """Starts the launcher, with both outputs into ``log``."""
    with log.open("ab") as file:
        return subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT)


def workers(launcher: "subprocess.Popen[bytes]") -> dict[int, psutil.Process]:
    """The launcher's training processes by rank."""
    processes = {}
    for process in psutil.Process(launcher.pid).children():
        try:
            processes[int(process.environ()["RANK"])] = process
        except (psutil.Error, KeyError):
            continue
    return processes


def step_of(run: Path) -> int:
    """The last step in metrics.jsonl; an incomplete line does not count."""
    text = (run / "metrics.jsonl").read_text() if (run / "metrics.jsonl").exists() else ""
    lines = text[: text.rfind("\n") + 1].splitlines()
    return int(json.loads(lines[-1])["step"]) if lines else 0


def wait_for(condition: Callable[[], object], launcher: "subprocess.Popen[bytes]") -> bool:
    """Waits until the condition is true; returns False if the run ends before."""
    while not condition():
        if launcher.poll() is not None:
            return False
        time.sleep(0.0005)
    return True


def hit(kind: str, launcher: "subprocess.Popen[bytes]", run: Path, draw: random.Random) -> tuple[str, int] | None:
    """Sends the signal; returns its target and the approximate step, or None if the run ended first."""
    step = draw.randrange(1, STEPS - 40) if kind != "kill" or draw.random() < 0.8 else 0
    reached = wait_for(lambda: (run / "config.ini").exists() and step_of(run) >= step, launcher)
    if reached and kind == "saving":
        reached = wait_for(lambda: any((run / "checkpoints").glob("*.tmp")), launcher)
    if not reached:
        return None
    rank = 0 if kind == "saving" else draw.randrange(2)
    time.sleep(0 if kind == "saving" else draw.random() * 0.1)
    number = {"kill": signal.SIGKILL, "saving": signal.SIGKILL, "stop": signal.SIGSTOP}.get(kind, signal.SIGTERM)
    if kind == "term-launcher":
        launcher.send_signal(number)
        return "launcher", step_of(run)
    worker = workers(launcher).get(rank)
    if worker is None:
        return None
    worker.send_signal(number)
    return f"rank {rank}", step_of(run)


def state_of(run: Path) -> dict[str, Any]:
    """Everything that must be the same, bit for bit."""
    last = load_checkpoint(checkpoints(run / "checkpoints")[-1])
    last["tracker"] = {key: value for key, value in last["tracker"].items() if key not in ("lap", "training_seconds")}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics = [{key: value for key, value in line.items() if key not in CLOCKS} for line in lines]
    samples = {path.name: path.read_bytes() for path in sorted((run / "samples").glob("*.png"))}
    return {"checkpoint": last, "metrics": metrics, "samples": samples}


def difference(a: Any, b: Any, path: str = "") -> str:
    """The path of the first difference between two states; "" if they are equal."""
    if isinstance(a, torch.Tensor):
        return "" if torch.equal(a, b) else path
    if isinstance(a, dict):
        keys = "" if a.keys() == b.keys() else f"{path}: {sorted(map(str, a.keys() ^ b.keys()))[:3]}"
        return keys or next(filter(None, (difference(a[key], b[key], f"{path}/{key}") for key in a)), "")
    if isinstance(a, list):
        length = "" if len(a) == len(b) else f"{path}: {len(a)} and {len(b)} entries"
        pairs = enumerate(zip(a, b, strict=False))
        return length or next(filter(None, (difference(x, y, f"{path}/{i}") for i, (x, y) in pairs)), "")
    return "" if a == b else path


def survive(kind: str, folder: Path, number: int, reference: dict[str, Any], draw: random.Random) -> str:
    """Disturbs one run; returns a description, which ends in "same" if the run ended as it must."""
    run, log = folder / f"run-{number}", folder / f"log-{number}"
    restarts = ["--max-restarts=3"] if kind in ("kill", "saving") else []
    launcher = start(command(folder, run, *restarts), log)
    target = hit(kind, launcher, run, draw)
    code = launcher.wait(120)
    text = log.read_text()
    expected = {"kill": 0, "saving": 0, "stop": 1}.get(kind, 143)
    what = f"{target[0]} at about step {target[1]}" if target else "ended before the signal"
    if target is None and code:
        return f"failed before the signal: {text.splitlines()[-1]}"
    if target and code != expected:
        return f"{what}; exit code {code}, not {expected}: {text.splitlines()[-1]}"
    if target and kind in ("kill", "saving") and "restart 1 of 3" not in text:
        return f"{what}; no restart in {log}"
    if target and kind.startswith("term") and not STOPPED.search(text):
        return f"{what}; no message about it in {log}"
    if target and kind == "stop" and not re.search(r"rank \d \(pid \d+ on .*\) has gone silent", text):
        return f"{what}; no message that names it in {log}"
    if target and expected and start(command(folder, run), log).wait(120) != 0:
        return f"{what}; did not resume: {log.read_text().splitlines()[-1]}"
    differs = difference(reference, state_of(run))
    return f"{what}; differs at {differs}" if differs else f"{what}; same"


def main() -> None:
    """Prints a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--kinds", default="kill,saving", help="kill, saving, term-launcher, term-worker, stop")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="d3gan-soak-"))
    (folder / "images").mkdir()
    for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (IMAGES, 16, 16, 3), np.uint8)):
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
    begin = time.monotonic()
    if start(command(folder, folder / "whole"), folder / "log").wait(300):
        sys.exit(f"the undisturbed run failed: {(folder / 'log').read_text()}")
    reference = state_of(folder / "whole")
    print(f"undisturbed: {STEPS} steps in {time.monotonic() - begin:.0f} s; all in {folder}", flush=True)
    draw = random.Random(options.seed)  # noqa: S311 (no secret: when to kill)
    kinds, failed = options.kinds.split(","), 0
    for number in range(options.times):
        kind, begin = kinds[number % len(kinds)], time.monotonic()
        outcome = survive(kind, folder, number, reference, draw)
        failed += not outcome.endswith("same")
        print(f"{number + 1:3}  {kind:<13} {outcome}  ({time.monotonic() - begin:.0f} s)", flush=True)
    print(f"{options.times - failed} of {options.times} ended with the same bits")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
