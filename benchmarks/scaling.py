"""Measures the weak-scaling efficiency of two processes of one thread each against one process of one thread.

    python benchmarks/scaling.py [--rounds 5] [--seconds 6] [--workers 2] [--precision auto]

Runs `d3gan scale` on random images and prints what its plots leave out: the efficiency of each round. A round
measures the single process, then all of them, while nothing else runs; results are medians over the rounds with the
smallest and the largest. On a noisy machine take many short rounds: --rounds 15 --seconds 3.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from spread import spread

IMAGES = 2048


def make_images(folder: Path) -> None:
    """Random images of 32 x 32 pixels; the speed does not depend on what they show."""
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:04d}.png")


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The scaling.json of one call of `d3gan scale`."""
    (folder / "images").mkdir()
    make_images(folder / "images")
    (folder / "config.ini").write_text(f"[parameters]\nbatch_size = {options.batch_size}\n")
    words = [f"--dataset={folder / 'images'}", f"--data-dir={folder}", f"--config={folder / 'config.ini'}"]
    words += [f"--workers=1,{options.workers}", f"--rounds={options.rounds}", f"--seconds={options.seconds}"]
    words += [f"--precision={options.precision}", f"--device={options.device}", f"--out={folder / 'scaling'}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    subprocess.run([sys.executable, "-m", "d3gan", "scale", *words], env=environment, check=True)
    document: dict[str, Any] = json.loads((folder / "scaling" / "scaling.json").read_text())
    return document


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="per measurement")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="per process")
    parser.add_argument("--batch-size", type=int, default=128, help="per process")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        document = measure(options, Path(folder))
    about = ", ".join(str(document[key]) for key in ("device_name", "precision", "backend", "torch"))
    print(f"\n{about}, {document['threads']} thread(s) per process, batch size {options.batch_size} per process\n")
    head = ["model", "images/s, 1 process", f"images/s, {options.workers} processes", "efficiency"]
    print(f"| {' | '.join([*head, 'part of the machine', 'part of the exchanges'])} |\n|{'---|' * 6}")
    for model in document["models"]:
        one, many = (row for row in document["rows"] if row["model"] == model)
        print(f"| {model} | {' | '.join(columns(one, many, options))} |")


def columns(one: dict[str, Any], many: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """Speeds, and the efficiency of each round as a product of two parts.

    The machine's part is the efficiency of processes that train at the same time without exchanging anything: cores
    share memory, caches and clock, and the host with its other guests. The exchanges' part is our communication's.
    """
    rounds = list(zip(one["rounds"], many["rounds"], strict=True))
    alone = [many["step_seconds"] - many["communication_seconds"] for _, many in rounds]
    speeds = [[options.batch_size / one["step_seconds"] for one, _ in rounds]]
    speeds += [[options.batch_size * options.workers / many["step_seconds"] for _, many in rounds]]
    machine = [one["step_seconds"] / seconds for (one, _), seconds in zip(rounds, alone, strict=True)]
    ours = [seconds / many["step_seconds"] for (_, many), seconds in zip(rounds, alone, strict=True)]
    efficiency = [one["step_seconds"] / many["step_seconds"] for one, many in rounds]
    return [spread(speed, ",.0f") for speed in speeds] + [spread(e, ".3f") for e in (efficiency, machine, ours)]


if __name__ == "__main__":
    main()
