"""Measures the weak-scaling efficiency of two processes of one thread each against one process of one thread.

    python benchmarks/scaling.py [--rounds 5] [--seconds 6] [--workers 2] [--precision auto]

It is `d3gan scale` on made-up images, with what its plots leave out: the efficiency of each round. In a round the
single process is measured, then all of them, while nothing else runs; figures are medians over the rounds with the
smallest and the largest.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IMAGES = 2048


def make_images(folder: Path) -> None:
    """Random pictures of 32 x 32 pixels: what they show makes no difference to the speed."""
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:04d}.png")


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """scaling.json of one run of `d3gan scale`."""
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


def spread(values: list[float], form: str) -> str:
    """Median (smallest to largest)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each figure")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--batch-size", type=int, default=128, help="of each process")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        document = measure(options, Path(folder))
    about = ", ".join(str(document[key]) for key in ("device_name", "precision", "backend", "torch"))
    print(f"\n{about}, {document['threads']} thread(s) a process, batch size {options.batch_size} a process\n")
    print(f"| model | images/s, 1 process | images/s, {options.workers} processes | efficiency | communication |")
    print("|---|---|---|---|---|")
    for model in document["models"]:
        alone, together = (row for row in document["rows"] if row["model"] == model)
        rates = [row["images_per_second_of_rounds"] for row in (alone, together)]
        efficiencies = [many / one / options.workers for one, many in zip(*rates, strict=True)]
        share = together["communication_seconds"]["median"] / together["step_seconds"]["median"]
        columns = [spread(rates[0], ",.0f"), spread(rates[1], ",.0f"), spread(efficiencies, ".3f"), f"{share:.1%}"]
        print(f"| {model} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
