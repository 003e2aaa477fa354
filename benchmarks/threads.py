"""Measures the demo's step with one thread and with two, on a quiet machine and next to a busy program.

    python benchmarks/threads.py [--rounds 5] [--seconds 3]

Each measurement has its own process, because PyTorch sets the number of threads when it starts. Every round measures
each row once; results are medians over the rounds with the smallest and the largest.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from spread import spread

PRESET = "mnist-study"


def images_per_second(seconds: float) -> float:
    """Speed of the demo's D3GAN step on random images, in this process."""
    import torch

    from d3gan.config.presets import load_preset
    from d3gan.devices import resolve_precision
    from d3gan.training.setup import build_gan
    from d3gan.training.step import train_step

    config, device = load_preset(PRESET), torch.device("cpu")
    gan = build_gan(config, device, resolve_precision("auto", device))
    real_images = torch.rand(config.batch_size, config.nc, config.image_size, config.image_size) * 2 - 1
    latents = torch.randn(config.batch_size, config.nz)
    for _ in range(5):
        train_step(gan, real_images, latents)
    begin, steps = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        train_step(gan, real_images, latents)
        steps += 1
    return steps * config.batch_size / (time.perf_counter() - begin)


@contextmanager
def busy_core(busy: bool) -> Iterator[None]:
    """A block during which another process computes, if ``busy``."""
    if not busy:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    parser.add_argument("--once", action="store_true", help="measure in this process and print only the result")
    options = parser.parse_args()
    if options.once:
        print(images_per_second(options.seconds))
        return
    rows = [(threads, busy) for threads in ("1", "2") for busy in (False, True)]
    speeds: dict[tuple[str, bool], list[float]] = {row: [] for row in rows}
    command = [sys.executable, __file__, "--once", "--seconds", str(options.seconds)]
    for _ in range(options.rounds):
        for threads, busy in rows:
            with busy_core(busy):
                environment = os.environ | {"OMP_NUM_THREADS": threads}
                done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            speeds[threads, busy].append(float(done.stdout))
    print("| threads | one core busy with another program | images/s |\n|---|---|---|")
    for (threads, busy), values in speeds.items():
        print(f"| {threads} | {'yes' if busy else 'no'} | {spread(values, ',.0f')} |")


if __name__ == "__main__":
    main()
