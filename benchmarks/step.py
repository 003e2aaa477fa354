"""Measures a training step beside a plain eager loop of the same arithmetic, the data's share of it, and start-up.

    python benchmarks/step.py [--batch-size 128] [--rounds 7] [--steps 4] [--precisions bf16,float32] [--json FILE]

Every row is measured in every round, one after the other, so that a slow moment of the machine falls on all of them;
figures are medians over the rounds with the smallest and the largest. Ratios are taken within a round.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d3gan import TrainConfig
from d3gan.build import build_gan
from d3gan.data.batches import Batches
from d3gan.devices import network_dtype, resolve_device, resolve_precision
from d3gan.models.dcgan import Discriminator, Generator, initialise
from d3gan.randomness import draw_latents, stream
from d3gan.train_step import train_step

IMAGES = 60_000  # as many as MNIST has


class PlainLoop:
    """The step as a tutorial writes it: one network and one optimiser after the other, the choice made by the host.

    The arithmetic is the same as ours: losses from logits, no discriminator weight gradient in the generator phase.
    """

    def __init__(
        self,
        config: TrainConfig,
        device: torch.device,
        dtype: torch.dtype,
        autocast: Callable[[], AbstractContextManager[Any]],
    ):
        self.autocast, self.dtype = autocast, dtype
        self.generator = Generator(config.image_size, config.nz, config.ngf, config.nc, config.recipe.activation)
        K = config.recipe.discriminators
        self.discriminators = [Discriminator(config.image_size, config.ndf, config.nc) for _ in range(K)]
        for i, network in enumerate((self.generator, *self.discriminators)):
            initialise(network, stream(0, "benchmark", i))
            network.to(device, dtype)
        self.generator_adam = torch.optim.Adam(self.generator.parameters(), lr=config.lr, betas=(0.5, 0.999))
        self.adams = [torch.optim.Adam(d.parameters(), lr=config.lr, betas=(0.5, 0.999)) for d in self.discriminators]
        self.loss = nn.BCEWithLogitsLoss()

    def step(self, real_images: Tensor, latents: Tensor) -> None:
        """One step; arguments as for ``d3gan.train_step.train_step``."""
        ones = torch.ones(len(real_images), device=real_images.device, dtype=self.dtype)
        with self.autocast():
            fake_images = self.generator(latents)
        real_errors, fake_errors = [], []
        for discriminator, adam in zip(self.discriminators, self.adams, strict=True):
            with self.autocast():
                real_logits, fake_logits = discriminator(real_images), discriminator(fake_images.detach())
            real_errors.append(self.loss(real_logits.to(self.dtype), ones))
            fake_errors.append(self.loss(fake_logits.to(self.dtype), 0 * ones))
            adam.zero_grad()
            (real_errors[-1] + fake_errors[-1]).backward()
            adam.step()
        errors = [real.item() + fake.item() for real, fake in zip(real_errors, reversed(fake_errors), strict=True)]
        discriminator = self.discriminators[errors.index(max(errors))]
        discriminator.requires_grad_(False)
        with self.autocast():
            logits = discriminator(fake_images)
        self.generator_adam.zero_grad()
        self.loss(logits.to(self.dtype), ones).backward()
        self.generator_adam.step()
        discriminator.requires_grad_(True)


def make_rows(
    config: TrainConfig, precision: Any, batches: Batches, device: torch.device
) -> dict[str, Callable[[int], object]]:
    """What is timed, by name: each call does step ``i``."""
    gan = build_gan(config, device, precision)
    dtype = network_dtype(precision)
    plain = PlainLoop(config, device, dtype, gan.autocast)

    def latents(i: int) -> Tensor:
        return draw_latents(config.batch_size, config.nz, 0, "latents", i, device=device).to(dtype)

    def data(i: int) -> None:
        batches.at(i)
        latents(i)

    fixed_images, fixed_latents = batches.at(0), latents(0)
    return {
        "d3gan step": lambda _: train_step(gan, fixed_images, fixed_latents),
        "plain step": lambda _: plain.step(fixed_images, fixed_latents),
        "data": data,
    }


def seconds_a_step(row: Callable[[int], object], steps: int, start: int, device: torch.device) -> float:
    """Wall time of one call, once the device has done all of them."""
    synchronise(device)
    begin = time.perf_counter()
    for i in range(steps):
        row(start + i)
    synchronise(device)
    return (time.perf_counter() - begin) / steps


def synchronise(device: torch.device) -> None:
    """Waits for an accelerator; a CPU has nothing queued."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One record a model and precision: seconds of each row in each round."""
    device = resolve_device(options.device)
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 1, 32, 32), np.uint8)
    records = []
    for model in ("d3gan", "dcgan"):
        for name in options.precisions.split(","):
            precision = resolve_precision(name, device)
            config = TrainConfig(model=model, batch_size=options.batch_size)
            batches = Batches(pixels, config.batch_size, config.nc, 0, device, network_dtype(precision))
            rows = make_rows(config, precision, batches, device)
            record: dict[str, Any] = {
                "model": model,
                "precision": precision,
                "seconds": {name: [] for name in rows},
                "rows": rows,
            }
            for row in rows.values():
                seconds_a_step(row, 2, 0, device)  # warm-up
            records.append(record)
    for number in range(options.rounds):
        for record in records:
            for name, row in record["rows"].items():
                took = seconds_a_step(row, options.steps, 1 + number * options.steps, device)
                record["seconds"][name].append(took)
    return [{key: value for key, value in record.items() if key != "rows"} for record in records]


def seconds_to_help(rounds: int) -> list[float]:
    """Wall time of ``d3gan --help`` from nothing, in each round."""
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "d3gan", "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begin)
    return seconds


def spread(values: list[float], form: str) -> str:
    """Median (smallest to largest)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def table(records: list[dict[str, Any]], batch_size: int) -> str:
    """The records as a Markdown table."""
    lines = [
        "| model | precision | ours, images/s | plain loop, images/s | ours / plain | data, share of a step |",
        "|---|---|---|---|---|---|",
    ]
    for record in records:
        ours, plain, data = (record["seconds"][name] for name in ("d3gan step", "plain step", "data"))
        cells = [
            record["model"],
            record["precision"],
            spread([batch_size / s for s in ours], ",.0f"),
            spread([batch_size / s for s in plain], ",.0f"),
            spread([b / a for a, b in zip(ours, plain, strict=True)], ".3f"),
            spread([d / (d + s) for s, d in zip(ours, data, strict=True)], ".2%"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measures, prints the table, writes the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="steps of each row in each round")
    parser.add_argument(
        "--precisions", default="bf16,float32", help="bf16, float32, float64, auto, separated by commas"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write every measured time here")
    options = parser.parse_args()
    records = measure(options)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {resolve_device(options.device)}")
    print(f"batch {options.batch_size}, {options.rounds} rounds of {options.steps} steps")
    print("median (smallest to largest)\n")
    print(table(records, options.batch_size))
    startup = seconds_to_help(options.rounds)
    print(f"\nd3gan --help: {spread(startup, '.3f')} s")
    if options.json:
        options.json.write_text(
            json.dumps({"batch_size": options.batch_size, "records": records, "help_seconds": startup}, indent=1)
        )


if __name__ == "__main__":
    main()
