"""Scaling documents of a made-up machine: what `d3gan scale` would write, with known causes."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from d3gan.scaling.allreduce_model import CostModel, Point

LINK = CostModel(alpha=2e-5, beta=2.5e9)
SIZES = tuple(4**power for power in range(5, 14))  # 1 KiB to 64 MiB
COMPUTE = {"dcgan": 0.020, "d3gan": 0.031}  # seconds for 64 images
GRADIENTS = {
    "dcgan": {"generator_bytes": 11_849_216, "discriminator_bytes": 11_037_696, "exchange_bytes": 3_848},
    "d3gan": {"generator_bytes": 11_849_216, "discriminator_bytes": 22_075_392, "exchange_bytes": 7_696},
}


def spread(value: float, width: float = 0.03) -> dict[str, float]:
    return {"median": value, "low": value * (1 - width), "high": value * (1 + width)}


def points(link: CostModel, workers: Sequence[int] = (2, 4), sizes: Sequence[int] = SIZES) -> list[Point]:
    return [Point(size, count, link.seconds(size, count)) for count in workers for size in sizes]


def communication(model: str, workers: int, link: CostModel = LINK) -> float:
    return sum(link.seconds(size, workers) for size in GRADIENTS[model].values())


def row(
    model: str, workers: int, batch_size: int, exposed: float, utilization: float | None, images: int
) -> dict[str, Any]:
    compute, data = COMPUTE[model] * (0.3 + 0.7 * batch_size / 64), 0.001 * batch_size / 64
    waiting = exposed * communication(model, workers)
    step = data + compute + waiting
    return {
        "model": model,
        "workers": workers,
        "batch_size": batch_size,
        "global_batch_size": batch_size * workers,
        "images_per_second": spread(batch_size * workers / step),
        "step_seconds": spread(step),
        "data_seconds": spread(data),
        "compute_seconds": spread(compute),
        "communication_seconds": spread(waiting),
        "epoch_seconds": spread(math.ceil(images / (batch_size * workers)) * step),
        "exchanged_bytes": sum(GRADIENTS[model].values()) if workers > 1 else 0,
        "utilization": None if utilization is None else spread(utilization * compute / step),
        "memory_bytes": 10**9,
    }


def document(
    workers: Sequence[int] = (1, 2, 4),
    batch_sizes: Sequence[int] = (64, 128),
    models: Sequence[str] = ("dcgan", "d3gan"),
    mode: str = "weak",
    utilization: float | None = 0.97,
    exposed: float = 0.6,
    link: Callable[[Sequence[int]], list[Point]] = lambda workers: points(LINK, workers),
) -> dict[str, Any]:
    several = [count for count in workers if count > 1]
    swept = link(several) if several else []
    return {
        "format": 1,
        "mode": mode,
        "workers": list(workers),
        "batch_sizes": list(batch_sizes),
        "models": list(models),
        "device": "cpu",
        "device_name": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
        "backend": "gloo",
        "precision": "float32",
        "threads": 1,
        "hosts": 1,
        "torch": "2.13.0",
        "dataset": "mnist",
        "dataset_images": 60000,
        "image_size": 32,
        "rounds": 3,
        "seconds": 5.0,
        "command": ["d3gan", "scale", "--workers", ",".join(map(str, workers)), "--mode", mode],
        "started": "2026-11-23T14:00:00+00:00",
        "rows": [
            row(model, count, size if mode == "weak" else size // count, exposed, utilization, 60000)
            for model in models
            for size in batch_sizes
            for count in workers
        ],
        "gradients": {model: GRADIENTS[model] for model in models},
        "all_reduce": {
            "sweeps": [
                {
                    "workers": count,
                    "points": [{"bytes": p.bytes, "seconds": spread(p.seconds)} for p in swept if p.workers == count],
                }
                for count in several
            ]
        }
        if several
        else None,
    }
