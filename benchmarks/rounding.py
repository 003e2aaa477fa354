"""Measures whether rounding changes training: FID by step in bf16 with our convolutions or PyTorch's, and in float32.

    python benchmarks/rounding.py [--seeds 3] [--steps 800] [--dataset mnist] [--data-dir DIR] --out FOLDER

Trains each seed in each of the three ways, at 16 x 16 pixels and width 64, where our convolutions compute the two
inner layers. Rounding makes runs of one seed drift apart as much as other seeds do; what counts is whether the ratios
of their FIDs are around 1, given the spread over seeds. Runs that the folder holds already are not trained again.
"""

import argparse
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from variants import plain_convolutions

from d3gan import TrainConfig, train
from d3gan.comparison.formatting import interval_text, p_text, ratio_text
from d3gan.comparison.grouping import metrics_by_dataset
from d3gan.comparison.runs import read_runs
from d3gan.comparison.statistics import paired_ratio, ratio_interval

WAYS: dict[str, tuple[str, Callable[[], AbstractContextManager[Any]]]] = {
    "bf16, our convolutions": ("bf16", nullcontext),
    "bf16, PyTorch's convolutions": ("bf16", plain_convolutions),
    "float32, PyTorch's convolutions": ("float32", plain_convolutions),
}


def run_of(options: argparse.Namespace, way: str, seed: int) -> Path:
    """Trains a run, or returns the one that exists."""
    precision, inside = WAYS[way]
    settings: dict[str, Any] = {
        "dataset": options.dataset,
        "data_dir": options.data_dir,
        "out": str(options.out / f"{way.replace(', ', '-').replace(' ', '-')}-s{seed}"),
        "precision": precision,
        "seed": seed,
        "image_size": 16,
        "nc": 1,
        "batch_size": 64,
        "max_steps": options.steps,
        "checkpoint": options.steps,
        "evaluate_every": options.steps // 4,
        "num_samples": 2000,
        "features": "efficientnet-lite0",
        "reference": "test",
    }
    with inside():
        return train(TrainConfig(**settings)).run


def main() -> None:
    """Trains, prints the FIDs by step and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    paths = {way: [run_of(options, way, seed) for seed in range(options.seeds)] for way in WAYS}
    runs = {way: read_runs(folders) for way, folders in paths.items()}
    (metrics,) = metrics_by_dataset([run for runs_of_way in runs.values() for run in runs_of_way]).values()
    fid = metrics.distance
    values = {way: [[line[fid] for line in run.evaluations] for run in runs[way]] for way in WAYS}
    steps = [line["step"] for line in runs[next(iter(WAYS))][0].evaluations]
    print(f"\n{fid}, {options.seeds} seeds\n\n| step | {' | '.join(WAYS)} |\n|---{'|---' * len(WAYS)}|")
    for i, step in enumerate(steps):
        cells = [interval_text(ratio_interval([curve[i] for curve in values[way]])) for way in WAYS]
        print(f"| {step} | {' | '.join(cells)} |")
    ours, *others = WAYS
    for other in others:
        for i in (0, len(steps) - 1):
            ratio = paired_ratio([curve[i] for curve in values[ours]], [curve[i] for curve in values[other]])
            print(f"- {ours} over {other}, step {steps[i]}: {ratio_text(ratio)}, p {p_text(ratio.t_test)}")
    print(json.dumps(values))


if __name__ == "__main__":
    main()
