"""How tests start several processes, find them, and hit them."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def torchrun(processes: int) -> list[str]:
    """The words before ``-m`` that start so many processes."""
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nproc-per-node={processes}",
        f"--master-port={free_port()}",
    ]


def results_of_two(program: str, folder: Path, timeout: float = 100) -> list[dict[str, Any]]:
    """What a module, run by torchrun in two processes, saves in ``folder`` as rank-0.pt and rank-1.pt."""
    command = [*torchrun(2), "-m", program, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]


def launch(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    """``d3gan train`` with its own launcher, both outputs into ``log``."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "d3gan", "train", *words], stdout=file, stderr=subprocess.STDOUT, cwd=ROOT
        )


def workers(launcher: "subprocess.Popen[bytes]") -> dict[int, psutil.Process]:
    """The launcher's processes that train, by rank."""
    found = {}
    for process in psutil.Process(launcher.pid).children():
        try:
            rank = process.environ().get("RANK")
        except psutil.Error:
            continue
        if rank is not None and process.status() != psutil.STATUS_ZOMBIE:
            found[int(rank)] = process
    return found


def wait_for(what: Callable[[], object], seconds: float = 200.0) -> None:
    """Until ``what`` is true; long, since others may be working on the machine."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
