"""Compares the training step with the published program's, technique by technique, and measures the start-up.

    python benchmarks/step.py [--batch-sizes 128] [--rounds 5] [--steps 3] [--precisions bf16,float32] [--json FILE]
    python benchmarks/step.py --models dcgan,d3gan,gman --ours-alone
    python benchmarks/step.py --models dcgan --ours-alone --augment color,translation,cutout ada

Every round measures each row once, so that a slow moment of the machine affects all of them; results are medians over
the rounds with the smallest and the largest. Ratios are taken within a round. The published step and program are
those of benchmarks/published.py, in float32 as they were, in a separate process, because our setting for keeping
memory holds for a whole process; they exist for d3gan and dcgan. A technique's row gives its difference from plain
PyTorch in float64.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from floors import COPIED, MATRIX, bytes_per_step, copy, flops_per_image, product
from PIL import Image
from published import PublishedStep, published_batches
from spread import spread
from torch import Tensor
from variants import Inside, build_variant, difference, variants_for

from d3gan import TrainConfig
from d3gan.config.recipes import MODELS
from d3gan.data.batches import Batches
from d3gan.devices import Precision, device_name, network_dtype, resolve_device, resolve_precision
from d3gan.memory import keep_memory, peak_memory
from d3gan.randomness import draw_latents

IMAGES = 60_000  # as many as MNIST has
# Steps of the published program per measurement: on a GPU more than its loader has prefetched.
PROGRAM_STEPS = {"cuda": 24, "cpu": 4}
PUBLISHED = ("d3gan", "dcgan")  # the models of the published program


class Label(NamedTuple):
    """Identifies a row of the table."""

    model: str
    batch_size: int
    name: str
    precision: str


class Row(NamedTuple):
    """One row's work: each call of ``run`` does step ``i``."""

    label: Label
    run: Callable[[int], object]
    inside: Inside = nullcontext
    times_itself: bool = False
    """``run`` returns seconds itself, because starting and ending do not count."""


def our_rows(options: argparse.Namespace, device: torch.device) -> list[Row]:
    """Our step and data in each precision and batch size, as they are and with one technique less or more."""
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 1, 32, 32), np.uint8)
    precisions = precisions_of(options, device)
    rows = [Row(Label("", 0, "matrix product", p), product(p, device)) for p in precisions]
    rows.append(Row(Label("", 0, "copy", ""), copy(device)))
    for model, size, precision in cells(options, precisions):
        config = TrainConfig(model=model, batch_size=size)
        batches = Batches(pixels, size, config.nc, 0, device, network_dtype(precision))
        images, latents = batches.at(0), latents_of(config, 0, device, precision)
        for variant in chosen(options, device, precision, config):
            step = build_variant(variant, config, device, precision)
            label = Label(model, size, variant.name, precision)
            rows.append(Row(label, repeated(step, images, latents), variant.inside))
        for augment in options.augment:
            augmented = TrainConfig(model=model, batch_size=size, augment=augment)
            step = build_variant(variants_for(device, precision, 1)[0], augmented, device, precision)
            rows.append(Row(Label(model, size, f"augment = {augment}", precision), repeated(step, images, latents)))
        rows.append(Row(Label(model, size, "data", precision), data_of(batches, config, device, precision)))
    return rows


def other_rows(options: argparse.Namespace, device: torch.device) -> list[Row]:
    """The published step, program and loader; and our step where the C library returns memory to the system."""
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 1, 32, 32), np.uint8)
    rows: list[Row] = []
    for model, size, _ in cells(options, ["float32"]):
        if model not in PUBLISHED:
            continue
        config = TrainConfig(model=model, batch_size=size)
        images = Batches(pixels, size, config.nc, 0, device, torch.float32).at(0)
        published = PublishedStep(config, device)
        program, loader = published_program(published, config, pixels, device)
        rows.append(Row(Label(model, size, "published step", "float32"), repeated(published.step, images)))
        rows.append(Row(Label(model, size, "published program", "float32"), program, times_itself=True))
        if not any(row.label[1:3] == (size, "published loader") for row in rows):
            rows.append(Row(Label(model, size, "published loader", "float32"), loader, times_itself=True))
    # Not with the techniques: their allocations would change this process's heap too.
    if device.type == "cpu" and options.ours_alone:
        for model, size, precision in cells(options, precisions_of(options, device)):
            config = TrainConfig(model=model, batch_size=size)
            images = Batches(pixels, size, config.nc, 0, device, network_dtype(precision)).at(0)
            latents = latents_of(config, 0, device, precision)
            ours = build_variant(variants_for(device, precision, 1)[0], config, device, precision)
            label = Label(model, size, "memory given back", precision)
            rows.append(Row(label, repeated(ours, images, latents)))
    return rows


def repeated(work: Callable[..., object], *arguments: Tensor) -> Callable[[int], object]:
    """The same work at every step."""
    return lambda _: work(*arguments)


def cells(options: argparse.Namespace, precisions: list[Any]) -> list[tuple[Any, int, Any]]:
    """Model, batch size, precision."""
    sizes = [int(word) for word in options.batch_sizes.split(",")]
    return [(model, size, precision) for size in sizes for model in options.models for precision in precisions]


def models_of(text: str) -> list[Any]:
    """The models that a list with commas names."""
    names = list(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in MODELS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown; allowed: {', '.join(MODELS)}")
    return names


def precisions_of(options: argparse.Namespace, device: torch.device) -> list[Precision]:
    """The precisions asked for."""
    return [resolve_precision(name, device) for name in options.precisions.split(",")]


def chosen(options: argparse.Namespace, device: torch.device, precision: Precision, config: TrainConfig) -> list[Any]:
    """The variants to measure."""
    variants = variants_for(device, precision, config.recipe.discriminators)
    return variants[:1] if options.ours_alone else variants


def latents_of(config: TrainConfig, step: int, device: torch.device, precision: Precision) -> Tensor:
    """A step's latents, as training draws them."""
    latents = draw_latents(config.batch_size, config.nz, 0, "latents", step, device=device)
    return latents.to(network_dtype(precision))


def data_of(
    batches: Batches, config: TrainConfig, device: torch.device, precision: Precision
) -> Callable[[int], object]:
    """The data that a step needs before it can begin."""

    def data(i: int) -> None:
        batches.at(i)
        latents_of(config, i, device, precision)

    return data


def published_program(
    published: PublishedStep, config: TrainConfig, pixels: Any, device: torch.device
) -> tuple[Callable[[int], float], Callable[[int], float]]:
    """Loader with step, and loader alone; each returns seconds per step."""
    steps = PROGRAM_STEPS.get(device.type, PROGRAM_STEPS["cuda"])

    def timed(work: Callable[[Tensor], object]) -> float:
        batches = published_batches(pixels, config, device)
        next(batches)  # starts its workers
        synchronize(device)
        begin = time.perf_counter()
        for _ in range(steps):
            work(next(batches))
        synchronize(device)
        return (time.perf_counter() - begin) / steps

    return lambda _: timed(published.step), lambda _: timed(lambda images: images)


def synchronize(device: torch.device) -> None:
    """Waits until an accelerator has finished its queued work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def seconds_of(row: Row, steps: int, start: int, device: torch.device) -> float:
    """Mean seconds per step of a row; waits for the device."""
    if row.times_itself:
        return float(row.run(start))  # type: ignore[arg-type]
    with row.inside():
        synchronize(device)
        begin = time.perf_counter()
        for i in range(steps):
            row.run(start + i)
        synchronize(device)
    return (time.perf_counter() - begin) / steps


def once(row: Row, device: torch.device) -> dict[str, int | None]:
    """Warms a row up; on a GPU, measures its peak memory and counts how often the host waits for the device."""
    if device.type != "cuda":
        seconds_of(row, 1, 0, device)
        return {"peak_device_memory": None, "host_waits": None}
    torch.cuda.reset_peak_memory_stats(device)
    seconds_of(row, 3, 0, device)
    with row.inside(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        row.run(0)
        torch.cuda.set_sync_debug_mode("default")
    waits = sum("synchroniz" in str(warning.message) for warning in caught)
    return {"peak_device_memory": torch.cuda.max_memory_allocated(device), "host_waits": waits}


def serve(pipe: Connection, options: argparse.Namespace, ours: bool) -> None:
    """Runs in a separate process: receives (row, steps, first step), sends seconds; ends when it receives None."""
    device = resolve_device(options.device)
    if ours and device.type == "cpu":
        keep_memory()
    rows = (our_rows if ours else other_rows)(options, device)
    pipe.send([(row.label, once(row, device)) for row in rows])
    while (request := pipe.recv()) is not None:
        number, steps, start = request
        pipe.send(seconds_of(rows[number], steps, start, device))
    pipe.send(peak_memory())


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each row in each round, and the FLOPs and bytes of a step."""
    device = resolve_device(options.device)
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    records: list[dict[str, Any]] = []
    for ours in (True, False):
        pipe, theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, options, ours)).start()
        theirs.close()  # so that a process that dies ends this one too
        for number, (label, seen) in enumerate(pipe.recv()):
            records.append({**label._asdict(), **seen, "seconds": [], "address": (len(pipes), number)})
        pipes.append(pipe)
    for round_ in range(options.rounds):
        for record in records:
            process, number = record["address"]
            pipes[process].send((number, options.steps, 1 + round_ * options.steps))
            record["seconds"].append(pipes[process].recv())
    memory = []
    for pipe in pipes:
        pipe.send(None)
        memory.append(pipe.recv())
    for record in records:
        del record["address"]
    flops = {model: flops_per_image(TrainConfig(model=model, batch_size=8), device) for model in options.models}
    traffic = [
        {"model": model, "batch_size": size, "precision": precision,
         "bytes": bytes_per_step(TrainConfig(model=model, batch_size=size), device, precision)}
        for model, size, precision in cells(options, precisions_of(options, device))
    ]  # fmt: skip
    return {
        "records": records,
        "flops_per_image": flops,
        "traffic": traffic,
        "copied": COPIED,
        "device_name": device_name(device),
        "peak_memory": memory,
    }


def differences(options: argparse.Namespace) -> dict[str, float]:
    """The difference of each technique from plain PyTorch, with D3GAN in float64."""
    device, config = resolve_device(options.device), TrainConfig(model="d3gan")
    variants = chosen(options, device, "float32", config)
    return {variant.name: difference(variant, config, device) for variant in variants}


def seconds_to_help(rounds: int) -> list[float]:
    """Wall time of ``d3gan --help`` in a new process, in each round."""
    return [_seconds_to_run(["--help"]) for _ in range(rounds)]


def seconds_to_first_step(rounds: int, device: str) -> list[float]:
    """Wall time of ``d3gan train`` for one step on 256 prepared images, in each round."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (256, 32, 32, 3), np.uint8)):
            Image.fromarray(pixels).save(pictures / f"{number}.png")
        words = ["train", f"--dataset={pictures}", "--max-steps=1", f"--device={device}", f"--data-dir={folder}"]
        calls = [[*words, f"--out={folder}/run-{number}"] for number in range(rounds + 1)]
        return [_seconds_to_run(call) for call in calls][1:]  # the first one prepares the images


def _seconds_to_run(words: list[str]) -> float:
    begin = time.perf_counter()
    command = [sys.executable, "-m", "d3gan", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
    return time.perf_counter() - begin


def main() -> None:
    """Measures, prints the table, and writes the results to a file on request."""
    from step_table import notes, table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=models_of, default="d3gan,dcgan", help="separated by commas")
    parser.add_argument("--batch-sizes", default="128", help="separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps of each row in each round")
    parser.add_argument(
        "--precisions", default="bf16,float32", help="bf16, float32, float64, auto, separated by commas"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--ours-alone", action="store_true", help="measure the effect of keeping memory instead of the techniques"
    )
    parser.add_argument("--augment", nargs="*", default=[], help="also our step with each of these augmentations")
    parser.add_argument("--json", type=Path, help="file for every measured time")
    options = parser.parse_args()
    results = measure(options) | {"differences": differences(options), "matrix": MATRIX}
    results["startup"] = {"--help": seconds_to_help(options.rounds)}
    results["startup"]["first step"] = seconds_to_first_step(min(3, options.rounds), options.device)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {results['device_name']}")
    print(f"{options.rounds} rounds of {options.steps} steps; median (smallest to largest)\n")
    print("\n".join([table(results), "", *notes(results)]))
    for name, seconds in results["startup"].items():
        print(f"- d3gan, seconds to {name}: {spread(seconds, '.2f')}")


if __name__ == "__main__":
    main()
