"""Draws where a training step's time goes, by group of operators, with our convolutions and with PyTorch's.

    python benchmarks/where_time_goes.py [--model d3gan] [--batch-size 128] [--precisions bf16,float32] [--steps 5]

Every round measures each bar once, so that a slow moment of the machine affects all of them: one step as it is, then
one under PyTorch's profiler. Results are means over the middle third of the profiled steps by time, so that the
groups add up to the step. An operator counts with its own time, without that of the operators it calls. On a GPU that
is the time of its kernels, and "the rest" is mostly the device's waiting.
"""

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from attribution import LATENTS, Parts, named_ranges, parts_of
from step import synchronize
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function
from variants import Inside, build_variant, variants_for

from d3gan import TrainConfig
from d3gan.devices import device_name, network_dtype, resolve_device, resolve_precision
from d3gan.errors import ConfigError
from d3gan.files import write_text
from d3gan.memory import keep_memory
from d3gan.randomness import draw_latents

WARM_UP = 3  # steps of each bar before the measured ones


class Bar(NamedTuple):
    """A way to compute the step."""

    precision: str
    name: str
    inside: Inside
    run: Callable[[int], object]


def bars_for(options: argparse.Namespace, device: torch.device) -> list[Bar]:
    """Our step and, on a CPU, the one with PyTorch's convolutions, in each precision."""
    config = TrainConfig(model=options.model, batch_size=options.batch_size)
    pixels = torch.rand(config.batch_size, config.nc, config.image_size, config.image_size, device=device)
    bars = []
    for precision in (resolve_precision(name, device) for name in options.precisions.split(",")):
        for variant in variants_for(device, precision, config.recipe.discriminators):
            if variant.name in ("ours", "PyTorch's convolutions"):
                step = build_variant(variant, config, device, precision)
                images = (2 * pixels - 1).to(network_dtype(precision))
                bars.append(Bar(precision, variant.name, variant.inside, with_latents(step, images, config, device)))
    return bars


def with_latents(step: Callable[..., object], images: Tensor, config: TrainConfig, device: torch.device) -> Any:
    """A step together with the drawing of its latents."""

    def run(i: int) -> None:
        with record_function(LATENTS):
            latents = draw_latents(config.batch_size, config.nz, 0, "latents", i, device=device)
        step(images, latents)

    return run


def seconds_of(bar: Bar, i: int, device: torch.device) -> float:
    """Seconds of step ``i``."""
    with bar.inside():
        synchronize(device)
        begin = time.perf_counter()
        bar.run(i)
        synchronize(device)
        return time.perf_counter() - begin


def profiled(bar: Bar, i: int, device: torch.device) -> tuple[float, Parts]:
    """Step ``i`` under the profiler: its seconds, and those of each phase and group."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with named_ranges(device), profile(activities=activities) as profiler:
        seconds = seconds_of(bar, i, device)
    return seconds, parts_of(list(profiler.events() or []), seconds, device)


def measure(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Each bar's seconds of its steps, and the means of its groups and of its phases."""
    bars = bars_for(options, device)
    seconds: list[list[float]] = [[] for _ in bars]
    profiles: list[list[tuple[float, Parts]]] = [[] for _ in bars]
    for i in range(WARM_UP + options.steps):
        for bar, plain, under_profiler in zip(bars, seconds, profiles, strict=True):
            plain.append(seconds_of(bar, i, device))
            under_profiler.append(profiled(bar, i, device))
    return {
        "model": options.model,
        "batch_size": options.batch_size,
        "image_size": TrainConfig().image_size,
        "torch": torch.__version__,
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "device_name": device_name(device),
        "steps": options.steps,
        "bars": [
            {
                "precision": bar.precision,
                "name": bar.name,
                "seconds": plain[WARM_UP:],
                "profiled": [whole for whole, _ in under_profiler[WARM_UP:]],
                "phases": means(middle_third(under_profiler[WARM_UP:]), 0),
                "groups": means(middle_third(under_profiler[WARM_UP:]), 1),
            }
            for bar, plain, under_profiler in zip(bars, seconds, profiles, strict=True)
        ],
    }


def middle_third(steps: list[tuple[float, Parts]]) -> list[Parts]:
    """The parts of all steps except the shortest and the longest third."""
    third = len(steps) // 3
    ordered = sorted(steps, key=lambda step: step[0])
    return [parts for _, parts in ordered[third : len(steps) - third]]


def means(steps: list[Parts], index: int) -> dict[str, float]:
    """Mean seconds over steps by phase (``index`` 0 of a part's key) or by group (1)."""
    mean_seconds: defaultdict[str, float] = defaultdict(float)
    for key, seconds in (item for parts in steps for item in parts.items()):
        mean_seconds[key[index]] += seconds / len(steps)
    return dict(mean_seconds)


def main() -> None:
    """Measures, prints the tables, draws the figure, and writes the results to a file on request."""
    from where_time_goes_figure import draw, tables

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("d3gan", "dcgan"), default="d3gan")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--precisions", default="bf16,float32", help="bf16, float32, auto, separated by commas")
    parser.add_argument("--steps", type=int, default=5, help="profiled steps per bar")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/figures/where-time-goes.png"), help="file of the figure"
    )
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    try:
        device = resolve_device(options.device)
        for name in options.precisions.split(","):
            resolve_precision(name, device)
    except ConfigError as error:
        parser.error(str(error))
    if device.type == "mps":
        parser.error("device = 'mps': PyTorch's profiler does not time its kernels; use cpu or cuda")
    if options.steps < 1:
        parser.error(f"--steps {options.steps}: must be at least 1")
    if device.type == "cpu":
        keep_memory()
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # silences the profiler, which logs when it starts and stops
    results = measure(options, device)
    if options.json:
        write_text(options.json, json.dumps(results, indent=1))
    print(tables(results))
    draw(results, options.out)


if __name__ == "__main__":
    main()
