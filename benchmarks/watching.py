"""What the page of `d3gan watch` costs the training: images per second with it open, over those with it closed.

One run trains all the time, as a process of its own, and so does the server. The page is opened and closed in turns,
so that what else the machine does meets both alike; with nobody there the server reads nothing. Each turn's speed is
the median of its lines of metrics.jsonl without the first one, in which the page was opened or closed. Prints the
ratio of each pair of turns, open over closed, their median and quartiles; the same for the steps per second of the
training's own processor time, which a machine that others use too disturbs less; and the processor time that the
server takes while the page is open. For example:

    python benchmarks/watching.py --turns 20 --seconds 10
    python benchmarks/watching.py --turns 20 --seconds 10 --chromium
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from d3gan.runs.directory import RunDirectory
from d3gan.runs.jsonl import read_lines

TRAIN = "--preset modes-ring8 --device cpu --epochs 100000 --log-every 20 --evaluate-every 0"
SPEED = "images_per_second_without_data"


def main() -> None:
    """Measures, and prints the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--turns", type=int, default=20, help="pairs of turns")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a turn")
    parser.add_argument("--chromium", action="store_true", help="a browser here, instead of one on another machine")
    parser.add_argument("words", nargs="*", help="further flags of d3gan train, after --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder) / "run")
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        program = [sys.executable, "-m", "d3gan"]
        words = [*TRAIN.split(), *options.words, "--out", str(run.path)]
        training = subprocess.Popen([*program, "train", *words], env=environment, stdout=subprocess.DEVNULL)
        server = subprocess.Popen([*program, "watch", folder], env=environment, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            server.stdout.readline()
            address = server.stdout.readline().strip()
            while not run.metrics.exists():
                time.sleep(0.5)
            page = chromium_page(address) if options.chromium else remote_page(address)
            measure(run, options, page, psutil.Process(training.pid), psutil.Process(server.pid))
        finally:
            for process in (server, training):
                process.terminate()
                process.wait()


def measure(
    run: RunDirectory,
    options: argparse.Namespace,
    page: tuple[Callable[[], None], Callable[[], None]],
    training: psutil.Process,
    server: psutil.Process,
) -> None:
    """Opens and closes the page in turns."""
    open_page, close_page = page
    ratios: dict[str, list[float]] = {"images per second": [], "steps per second of processor time": []}
    taken = 0.0
    for turn in range(options.turns):
        speeds = {}
        # Every second pair the other way round, as machines get slower or faster with time.
        for is_open in (True, False) if turn % 2 else (False, True):
            (open_page if is_open else close_page)()
            before, work, lines = processor_time(server), processor_time(training), len(read_lines(run.metrics))
            time.sleep(options.seconds)
            work, new = processor_time(training) - work, read_lines(run.metrics)[lines:]
            taken += is_open * (processor_time(server) - before)
            images = statistics.median(line[SPEED] for line in new[1:] if line.get(SPEED))
            speeds[is_open] = images, (new[-1]["step"] - new[0]["step"]) / work
        for name, opened, closed in zip(ratios, speeds[True], speeds[False], strict=True):
            ratios[name].append(opened / closed)
        print("open over closed: " + ", ".join(f"{each[-1]:.3f} {name}" for name, each in ratios.items()), flush=True)
    close_page()
    for name, each in ratios.items():
        low, middle, high = statistics.quantiles(each, n=4)
        print(f"{name}: median {middle:.4f}, quartiles {low:.4f} to {high:.4f}, of {len(each)} pairs")
    print(f"the server takes {taken / options.turns / options.seconds:.2%} of a core while the page is open")


def processor_time(process: psutil.Process) -> float:
    """Seconds that a process has computed."""
    return float(sum(process.cpu_times()[:2]))


def remote_page(address: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """A page that is drawn on another machine: here only its requests are made, of every new sample grid too."""
    stop = threading.Event()
    reader: list[threading.Thread] = []

    def read() -> None:
        with urllib.request.urlopen(f"{address}events?since=0") as events:  # noqa: S310
            for line in events:
                if stop.is_set():
                    return
                for name in re.findall(rb"samples/\w+/\d+", line):
                    urllib.request.urlopen(address + name.decode()).close()  # noqa: S310

    def open_page() -> None:
        stop.clear()
        reader.append(threading.Thread(target=read, daemon=True))
        reader[-1].start()

    def close_page() -> None:
        stop.set()
        while reader:
            reader.pop().join()

    return open_page, close_page


def chromium_page(address: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """A page in a Chromium without a window on this machine."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for word in ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{word}")
    browser: Any = webdriver.Chrome(options=options)
    return lambda: browser.get(address), lambda: browser.get("about:blank")


if __name__ == "__main__":
    main()
