"""Measures a training step beside the published program's, technique by technique, and start-up.

    python benchmarks/step.py [--batch-size 128] [--rounds 7] [--steps 4] [--precisions bf16,float32] [--json FILE]

Every row is measured in every round, one after the other, so that a slow moment of the machine falls on all of them;
figures are medians over the rounds with the smallest and the largest. Ratios are taken within a round. The published
step and program are those of benchmarks/published.py, in float32 as they were.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from published import PublishedStep, published_batches
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from d3gan import TrainConfig
from d3gan.build import build_gan
from d3gan.data.batches import Batches
from d3gan.devices import Precision, device_name, network_dtype, resolve_device, resolve_precision
from d3gan.models import convolution
from d3gan.models.dcgan import Discriminator, Discriminators
from d3gan.randomness import draw_latents
from d3gan.train_step import GAN, train_step

IMAGES = 60_000  # as many as MNIST has
PROGRAM_STEPS = 12  # of the published program at once: some of them it has loaded beforehand
MATRIX = 4096  # side of the matrices whose product says what the device can do


class Row(NamedTuple):
    """What is timed: each call of ``run`` does step ``i``, inside ``inside``."""

    model: str
    name: str
    precision: str
    run: Callable[[int], object]
    inside: Callable[[], AbstractContextManager[Any]] = nullcontext


@contextmanager
def pytorchs_convolutions() -> Iterator[None]:
    """A block without convolutions by matrix products."""
    fewest = dict(convolution.FEWEST_CHANNELS)
    convolution.FEWEST_CHANNELS.clear()
    try:
        yield
    finally:
        convolution.FEWEST_CHANNELS.update(fewest)


@contextmanager
def one_pass() -> Iterator[None]:
    """A block in which real and fake images go through a discriminator together, BatchNorm's statistics by half."""

    def judged(discriminator: Discriminator, images: Tensor, half: int) -> Tensor:
        for layer in discriminator.layers:
            normalises = isinstance(layer, nn.BatchNorm2d)
            images = torch.cat([layer(images[:half]), layer(images[half:])]) if normalises else layer(images)
        return images.flatten()

    def together(self: Discriminators, real_images: Tensor, fake_images: Tensor) -> tuple[Tensor, Tensor]:
        half, images = len(real_images), torch.cat([real_images, fake_images])
        logits = torch.stack([judged(d, images, half) for d in self.members])  # type: ignore[arg-type]
        return logits[:, :half], logits[:, half:]

    ours = Discriminators.forward
    Discriminators.forward = together  # type: ignore[method-assign]
    try:
        yield
    finally:
        Discriminators.forward = ours  # type: ignore[method-assign]


def changed(gan: GAN, *, fused: bool | None = None, channels_last: bool = True) -> GAN:
    """The networks with another Adam, or in PyTorch's default layout."""
    for optimizer in (gan.generator_optimizer, gan.discriminator_optimizer):
        for group in optimizer.param_groups:
            group["fused"] = group["fused"] if fused is None else fused
    if not channels_last:
        for network in (gan.generator, gan.discriminators):
            network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return gan


def rows_of(
    model: str, precision: Precision, config: TrainConfig, batches: Batches, device: torch.device
) -> list[Row]:
    """Our step in one precision, as it is and with one technique less or more."""
    dtype = network_dtype(precision)

    def latents(i: int) -> Tensor:
        return draw_latents(config.batch_size, config.nz, 0, "latents", i, device=device).to(dtype)

    def data(i: int) -> None:
        batches.at(i)
        latents(i)

    def step(gan: GAN) -> Callable[[int], object]:
        return lambda _: train_step(gan, images, noise)

    def build() -> GAN:
        return build_gan(config, device, precision)

    images, noise = batches.at(0), latents(0)
    variants = [Row(model, "ours", precision, step(build())), Row(model, "data", precision, data)]
    variants += [Row(model, "ours, Adam fused", precision, step(changed(build(), fused=True)))]
    variants += [Row(model, "ours, not channels last", precision, step(changed(build(), channels_last=False)))]
    variants += [Row(model, "ours, real and fake in one pass", precision, step(build()), one_pass)]
    if precision == "bf16" and device.type == "cpu":
        plain = step(build())
        variants += [Row(model, "ours, PyTorch's convolutions", precision, plain, pytorchs_convolutions)]
    return variants


def published_rows(
    model: str, config: TrainConfig, pixels: npt.NDArray[np.uint8], images: Tensor, device: torch.device
) -> list[Row]:
    """The published step, and the program: loader and step."""
    published = PublishedStep(config, device, torch.float32, nullcontext)

    def latents() -> Tensor:
        return torch.randn(config.batch_size, config.nz, device=device)

    def program(_: int) -> None:
        batches = published_batches(pixels, config, device)
        next(batches)  # its workers have started
        synchronise(device)
        begin = time.perf_counter()
        for _ in range(PROGRAM_STEPS):
            published.step(next(batches), latents())
        synchronise(device)
        took.append((time.perf_counter() - begin) / PROGRAM_STEPS)

    took: list[float] = []
    step = Row(model, "published step", "float32", lambda _: published.step(images, latents()))
    whole = Row(model, "published program", "float32", program)
    TAKEN[id(whole.run)] = took
    return [step, whole]


# Rows that take their own time: what starts and ends beside the steps does not count.
TAKEN: dict[int, list[float]] = {}


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


def seconds_of(row: Row, steps: int, start: int, device: torch.device) -> float:
    """Seconds of one step of a row."""
    if (took := TAKEN.get(id(row.run))) is not None:
        row.run(start)
        return took[-1]
    with row.inside():
        return seconds_a_step(row.run, steps, start, device)


def flops_an_image(config: TrainConfig, device: torch.device) -> float:
    """Floating-point operations of our step, for each image of the batch; counted by PyTorch, matrix work alone."""
    gan = build_gan(config, device, "float32")
    shape = config.batch_size, config.nc, config.image_size, config.image_size
    with FlopCounterMode(display=False) as counter:
        train_step(gan, torch.zeros(shape, device=device), torch.zeros(shape[0], config.nz, device=device))
    return float(counter.get_total_flops()) / config.batch_size


def product(precision: Precision, device: torch.device) -> Row:
    """The product of two large matrices."""
    dtype = torch.bfloat16 if precision == "bf16" else network_dtype(precision)
    a, b = (torch.randn(MATRIX, MATRIX, device=device).to(dtype) for _ in range(2))
    return Row("", "matrix product", precision, lambda _: a @ b)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each row in each round, and what a step has to compute."""
    device = resolve_device(options.device)
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 1, 32, 32), np.uint8)
    rows, flops = [], {}
    precisions = [resolve_precision(name, device) for name in options.precisions.split(",")]
    for model in ("d3gan", "dcgan"):
        config = TrainConfig(model=model, batch_size=options.batch_size)
        flops[model] = flops_an_image(config, device)
        for precision in precisions:
            batches = Batches(pixels, config.batch_size, config.nc, 0, device, network_dtype(precision))
            rows += rows_of(model, precision, config, batches, device)
        images = Batches(pixels, config.batch_size, config.nc, 0, device, torch.float32).at(0)
        rows += published_rows(model, config, pixels, images, device)
    rows += [product(precision, device) for precision in precisions]
    for row in rows:
        seconds_of(row, 2, 0, device)  # warm-up
    seconds: list[list[float]] = [[] for _ in rows]
    for number in range(options.rounds):
        for row, taken in zip(rows, seconds, strict=True):
            taken.append(seconds_of(row, options.steps, 1 + number * options.steps, device))
    records = [
        {"model": row.model, "name": row.name, "precision": row.precision, "seconds": taken}
        for row, taken in zip(rows, seconds, strict=True)
    ]
    return {"records": records, "flops_an_image": flops, "device": device.type, "device_name": device_name(device)}


def seconds_to_help(rounds: int) -> list[float]:
    """Wall time of ``d3gan --help`` from nothing, in each round."""
    return [_seconds_to_run(["--help"], os.environ) for _ in range(rounds)]


def seconds_to_first_step(rounds: int, device: str) -> list[float]:
    """Wall time of ``d3gan train`` for one step on 256 prepared images, in each round."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (256, 32, 32, 3), np.uint8)):
            Image.fromarray(pixels).save(pictures / f"{number}.png")
        words = ["train", f"--dataset={pictures}", "--max-steps=1", f"--device={device}", f"--data-dir={folder}"]
        calls = [[*words, f"--out={folder}/run-{number}"] for number in range(rounds + 1)]
        return [_seconds_to_run(call, os.environ) for call in calls][1:]  # the first one prepares the images


def _seconds_to_run(words: list[str], environment: Any) -> float:
    begin = time.perf_counter()
    command = [sys.executable, "-m", "d3gan", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - begin


def spread(values: list[float], form: str) -> str:
    """Median (smallest to largest)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def table(found: dict[str, Any], batch_size: int) -> str:
    """The records as a Markdown table."""
    lines = [
        "| model | what | precision | images/s | / published step | / published program | / ours | matrix rate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    seconds = {(r["model"], r["name"], r["precision"]): r["seconds"] for r in found["records"]}

    def against(model: str, name: str, precision: str, own: list[float]) -> str:
        other = seconds[model, name, precision]
        return spread([b / a for a, b in zip(own, other, strict=True)], ".2f")

    for (model, name, precision), own in seconds.items():
        if name in ("data", "matrix product"):
            continue
        ours = seconds.get((model, "ours", precision))
        rates = [2 * MATRIX**3 / s for s in seconds.get(("", "matrix product", precision), [])]
        flops = found["flops_an_image"][model] * batch_size
        shares = [flops / s / rate for s, rate in zip(own, rates, strict=False)]
        cells = [model, name, precision, spread([batch_size / s for s in own], ",.0f")]
        cells += [against(model, other, "float32", own) for other in ("published step", "published program")]
        cells += [against(model, "ours", precision, own) if ours else "", spread(shares, ".0%") if shares else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def asides(found: dict[str, Any]) -> list[str]:
    """What is not a row: the second discriminator's price, the data's share, what the device can do."""
    seconds = {(r["model"], r["name"], r["precision"]): r["seconds"] for r in found["records"]}
    lines = [f"{model}: {flops / 1e9:.2f} GFLOP an image" for model, flops in found["flops_an_image"].items()]
    for (model, name, precision), own in seconds.items():
        if name == "matrix product":
            lines.append(
                f"matrix product, {precision}: {spread([2e-12 * MATRIX**3 / s for s in own], '.2f')} TFLOP/s"
            )
        if (model, name) == ("d3gan", "ours"):
            price = [a / b for a, b in zip(own, seconds["dcgan", "ours", precision], strict=True)]
            data = [d / (d + s) for d, s in zip(seconds[model, "data", precision], own, strict=True)]
            lines.append(f"d3gan / dcgan, seconds of a step, {precision}: {spread(price, '.2f')}")
            lines.append(f"data, share of a step, {precision}: {spread(data, '.2%')}")
    return lines


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
    found = measure(options)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {found['device_name']}")
    print(f"batch {options.batch_size}, {options.rounds} rounds of {options.steps} steps")
    print("median (smallest to largest)\n")
    print("\n".join([table(found, options.batch_size), "", *asides(found)]))
    startup = {"help": seconds_to_help(options.rounds)}
    startup["first step"] = seconds_to_first_step(min(3, options.rounds), options.device)
    print("\n".join(f"d3gan, seconds to {name}: {spread(taken, '.2f')}" for name, taken in startup.items()))
    if options.json:
        options.json.write_text(json.dumps({"batch_size": options.batch_size, **found, "startup": startup}, indent=1))


if __name__ == "__main__":
    main()
