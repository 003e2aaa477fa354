"""Measures what an evaluation costs: extractors, statistics, the share of a training run, memory.

    python benchmarks/evaluate.py [--parts memory,extractors,statistics,training] [--rounds 5] [--json FILE]

Every round measures each row once, so that a slow moment of the machine affects all of them; results are medians over
the rounds with the smallest and the largest. The Inception network has random weights: its speed does not depend on
them.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from spread import spread
from torch import Tensor

from d3gan import TrainConfig, train
from d3gan.config.datasets import FEATURE_METRICS
from d3gan.config.presets import load_preset
from d3gan.devices import resolve_device
from d3gan.distributed.group import Group
from d3gan.errors import ConfigError
from d3gan.evaluation.evaluate import evaluate
from d3gan.evaluation.extractors.base import Extractor
from d3gan.evaluation.extractors.efficientnet import efficientnet_lite0
from d3gan.evaluation.extractors.inception import Inception
from d3gan.evaluation.extractors.inception_network import InceptionV3
from d3gan.evaluation.feature_statistics import collect_statistics
from d3gan.evaluation.metrics.fid import Gaussian, Moments, frechet_distance
from d3gan.evaluation.metrics.kid import kernel_distance
from d3gan.evaluation.metrics.prdc import neighbors
from d3gan.evaluation.reference import reference_from
from d3gan.evaluation.setup import EvaluationSpec, Instruments
from d3gan.memory import peak_memory
from d3gan.runs.jsonl import read_lines

ROOT = Path(__file__).parent.parent
MANY = 50_000


class Projection(Extractor):
    """As many features and logits as Inception in almost no time, to measure everything else."""

    feature_size, classes = 2048, 1008

    def __init__(self) -> None:
        super().__init__("projection", "projection", torch.device("cpu"))
        self._matrix = torch.randn(3 * 16 * 16, 2048 + 1008, generator=torch.Generator().manual_seed(0)) / 30

    def compute(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, 2048) and logits (n, 1008)."""
        rows = (images.float().flatten(1) / 128 - 1) @ self._matrix
        return rows[:, :2048], rows[:, 2048:]


def noise(start: int, stop: int) -> Tensor:
    """Images ``start`` to ``stop`` of a random set, uint8 (n, 3, 16, 16)."""
    return torch.randint(0, 256, (stop - start, 3, 16, 16), generator=torch.Generator().manual_seed(start)).to(
        torch.uint8
    )


def measure_rows(rows: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each row in each round, after one call to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for row in rows.values():
        row()
    for _ in range(rounds):
        for name, row in rows.items():
            begin = time.perf_counter()
            row()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def extractors(device: torch.device) -> dict[str, tuple[Extractor, int]]:
    """Each extractor, and the number of images to measure it with."""
    counts: dict[str, tuple[Extractor, int]] = {}
    large = 10_000 if device.type == "cuda" else 500
    try:
        counts["efficientnet-lite0"] = (efficientnet_lite0(device), large)
    except ConfigError as error:
        print(error)
    counts["inception"] = (Inception(InceptionV3(), "random", device), large // 10)
    return counts


def statistics_rows() -> dict[str, Callable[[], object]]:
    """The statistics at the sizes they have with Inception."""
    size, count = 2048, 10_000
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, count, size, generator=generator)
    sides = []
    for side in features:
        moments = Moments(size)
        moments.update(side)
        sides.append(moments.gaussian())
    reference = sides[0]
    reference.factor  # noqa: B018  # computed once in a run
    return {
        "mean and covariance of 250 images": lambda: Moments(size).update(features[0, :250]),
        "Frechet distance, the reference's factor known": lambda: frechet_distance(
            reference,
            Gaussian(sides[1].mean, sides[1].covariance),  # a new one each time, because it keeps its factor
        ),
        "factor of a reference": lambda: Gaussian(reference.mean, reference.covariance).factor,
        "KID, 100 subsets of 1,000": lambda: kernel_distance(features[0], features[1], generator),
        "precision, recall, density, coverage, 10,000 images": lambda: neighbors(features[0], features[1]),
    }


def _memory(queue: Any) -> None:
    """In a process of its own: peak memory before and after 50,000 fakes against a reference of 50,000."""
    extractor = Projection()
    collect_statistics(noise, 500, extractor, Group(), score=True)
    before = peak_memory()
    real = collect_statistics(noise, MANY, extractor, Group(), score=False)
    assert real is not None
    reference = reference_from(real, "noise", "noise", extractor)
    del real
    evaluate(noise, EvaluationSpec(FEATURE_METRICS, MANY), Instruments(extractor, reference), Group())
    queue.put((before, peak_memory()))


def peak_bytes() -> int:
    """Peak memory that an evaluation of 50,000 images adds to its extractor's, in bytes."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_memory, args=(queue,))
    process.start()
    before, after = queue.get()
    process.join()
    return int(after - before)


def training_seconds(rounds: int, steps: int) -> dict[str, list[float]]:
    """Wall time of the demo's D3GAN run for some steps, with and without evaluations, and of evaluations in each."""
    demo = load_preset("mnist-study")
    seconds: dict[str, list[float]] = {"with": [], "without": [], "evaluating": []}
    with tempfile.TemporaryDirectory() as folder:

        def run(name: str, config: TrainConfig, steps: int) -> tuple[float, float]:
            begin = time.perf_counter()
            path = train(replace(config, max_steps=steps, out=str(Path(folder) / name))).run
            lines = read_lines(path / "evaluations.jsonl")
            return time.perf_counter() - begin, sum(line["evaluation_seconds"] for line in lines)

        run("warm-up", demo, 2)  # prepares the images and the reference
        for number in range(rounds):
            whole, evaluating = run(f"with-{number}", demo, steps)
            seconds["with"].append(whole)
            seconds["evaluating"].append(evaluating)
            seconds["without"].append(run(f"without-{number}", replace(demo, evaluate_every=0), steps)[0])
    return seconds


def measure_extractors(options: argparse.Namespace, device: torch.device) -> dict[str, list[float]]:
    """Prints the speed of each extractor and returns its seconds."""
    counts = extractors(device)
    images = torch.randint(0, 256, (max(count for _, count in counts.values()), 3, 32, 32)).to(torch.uint8)
    rows: dict[str, Callable[[], object]] = {
        name: (lambda e=e, n=n: e(images[:n])[0].cpu())  # type: ignore[misc]
        for name, (e, n) in counts.items()
    }
    seconds = measure_rows(rows, options.rounds)
    for name, (_, count) in counts.items():
        print(f"{name}: {spread([count / s for s in seconds[name]], ',.0f')} images/s")
    return seconds


def measure_statistics(options: argparse.Namespace) -> dict[str, list[float]]:
    """Prints and returns the seconds of the statistics."""
    times = measure_rows(statistics_rows(), options.rounds)
    for name, seconds in times.items():
        print(f"{name}: {spread(seconds, '.2f')} s")
    return times


def measure_training(options: argparse.Namespace) -> dict[str, list[float]]:
    """Prints the share of evaluations in training and returns the runs' seconds."""
    seconds = training_seconds(options.rounds, options.steps)
    print(f"demo, {options.steps} steps, with evaluations: {spread(seconds['with'], '.1f')} s")
    shares = [a / b for a, b in zip(seconds["evaluating"], seconds["with"], strict=True)]
    print(f"share of it in evaluations, by the clock inside them: {spread(shares, '.1%')}")
    saved = [(a - b) / a for a, b in zip(seconds["with"], seconds["without"], strict=True)]
    print(f"share by which runs without them are shorter, with all noise of the machine: {spread(saved, '.1%')}")
    return seconds


def main() -> None:
    """Measures, prints the results, and writes them to a file on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="memory,extractors,statistics,training")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=937, help="training steps")
    parser.add_argument("--device", default="auto", help="of the extractors and of training")
    parser.add_argument("--json", type=Path, help="file for every measured time")
    options = parser.parse_args()
    device = resolve_device(options.device)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {device}; median (smallest to largest)")
    record: dict[str, Any] = {}
    parts = options.parts.split(",")
    if "memory" in parts:  # first: a new process's peak starts from the memory of the process that starts it
        record["peak_bytes"] = peak_bytes()
        print(
            f"peak memory of 50,000 images, all metrics, beyond the extractor: {record['peak_bytes'] / 1e6:,.0f} MB"
        )
    if "extractors" in parts:
        record["extractors"] = measure_extractors(options, device)
    if "statistics" in parts:
        record["statistics"] = measure_statistics(options)
    if "training" in parts:
        record["training"] = measure_training(options)
    if options.json:
        options.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
