"""``d3gan scale``: measures every workload in several rounds, and writes one document with its plots."""

import dataclasses
import json
import logging
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed

from d3gan.config.train_config import TrainConfig
from d3gan.data.load import ImageSet
from d3gan.devices import Precision, device_name, resolve_precision
from d3gan.distributed.group import Group, hostname
from d3gan.distributed.setup import naming_lost_contact, start
from d3gan.errors import ConfigError
from d3gan.files import refuse_unwritable, write_text
from d3gan.scaling.benchmark import Measurement, TrainingBenchmark, all_reduce_seconds
from d3gan.scaling.options import Scale
from d3gan.scaling.projection import projection_record
from d3gan.scaling.traffic import bytes_per_step, message_bytes
from d3gan.training.md_gan import workers_of
from d3gan.training.setup import images_of

logger = logging.getLogger("d3gan")

FORMAT = 1
MESSAGE_SECONDS = 0.2  # to measure the all-reduce of each message size


class Workload(NamedTuple):
    """What one measurement trains."""

    model: str
    workers: int
    batch_size: int
    """Per process."""


def workloads_of(options: Scale) -> list[Workload]:
    """All workloads to measure.

    Strong scaling leaves out batch sizes that the processes cannot share evenly; MD-GANs are left out where the
    processes cannot share their discriminators, or these the batch.
    """
    workloads = []
    for model in options.model_names:
        for size in options.sizes_of(options.train_config):
            for workers in options.numbers:
                per_process, rest = (size, 0) if options.mode == "weak" else divmod(size, workers)
                if per_process >= 2 and not rest:
                    workload = Workload(model, workers, per_process)
                    try:
                        workers_of(config_of(options, workload), Group(0, workers))
                    except ConfigError:
                        continue
                    workloads.append(workload)
    return workloads


def config_of(options: Scale, workload: Workload) -> TrainConfig:
    """What a workload trains; ConfigError if the model does not go with the other keys."""
    over: dict[str, Any] = {"model": workload.model, "batch_size": workload.batch_size}
    return dataclasses.replace(options.train_config, **over)


def measure_scaling(options: Scale) -> Path | None:
    """Measures, in the processes that the launcher started, and writes scaling.json and the plots.

    Args:
        options: what the user asked for.

    Returns:
        The folder of the document and the plots, on rank 0; None elsewhere.

    Raises:
        ConfigError: the options contradict each other or the data.
        ExternalError: data or files fail, or another process does.
    """
    config = options.train_config
    # Processes that a measurement does not need wait for it.
    with start(config.device, config.timeout + 10 * options.seconds) as (group, device), naming_lost_contact(group):
        with group.raise_on_all_ranks():
            if group.world_size < options.numbers[-1]:
                raise ConfigError(f"--workers {options.workers}: only {group.world_size} processes were started")
            if group.is_main:
                refuse_unwritable(Path(options.out))  # before minutes go into measuring
            precision = resolve_precision(config.resolved_precision, device)
            image_set = images_of(config)
            images, largest = len(image_set.images), max(w.workers * w.batch_size for w in workloads_of(options))
            if largest > images:
                raise ConfigError(f"a step needs {largest} images, the data set has {images}; lower --batch-sizes")
        hosts = len(set(group.all_gather(hostname())))
        measurements = _Measurements(options, group, device, precision, image_set)
        measurements.measure()
        if not group.is_main:
            return None
        document = _conditions(options, image_set, device, precision, hosts) | measurements.record()
    # Not at the top: matplotlib's memory would count among the memory that the processes need for training.
    from d3gan.scaling.plots import write_plots

    folder = Path(options.out)
    write_text(folder / "scaling.json", json.dumps(document, indent=1) + "\n")
    if options.project:  # may fail on these measurements; they are written already
        document["projection"] = projection_record(document, options.project)
        write_text(folder / "scaling.json", json.dumps(document, indent=1) + "\n")
    write_plots(document, folder, options.published)
    return folder


class _Measurements:
    """The measurements of all rounds, as one process takes part in them."""

    def __init__(
        self,
        options: Scale,
        group: Group,
        device: torch.device,
        precision: Precision,
        image_set: ImageSet,
    ):
        self._options, self._group, self._device = options, group, device
        self._precision, self._image_set = precision, image_set
        self._subgroups = {workers: group.subgroup(workers) for workers in options.numbers}
        self._rounds: dict[Workload, list[Measurement]] = {workload: [] for workload in workloads_of(options)}
        self._gradients: dict[str, dict[str, int]] = {}
        self._all_reduces: dict[int, list[dict[int, float]]] = {
            workers: [] for workers in options.numbers if workers > 1
        }

    def measure(self) -> None:
        """Measures all rounds; processes that a workload does not need wait for the others."""
        for number in range(1, self._options.rounds + 1):
            for workload in self._rounds:
                self._measure_workload(workload, f"round {number} of {self._options.rounds}")
            for workers in self._all_reduces if self._options.project else ():
                self._group.heartbeat(f"all-reduces of {workers} processes")
                subgroup = self._subgroups[workers]
                if subgroup is not None:
                    seconds_by_size = all_reduce_seconds(subgroup, self._device, MESSAGE_SECONDS)
                    self._all_reduces[workers].append(seconds_by_size)
                self._group.all_gather(None)

    def _measure_workload(self, workload: Workload, when: str) -> None:
        model, workers, batch_size = workload
        self._group.heartbeat(f"{model}, {workers} processes, batch size {batch_size}, {when}")
        subgroup = self._subgroups[workers]
        if subgroup is not None:
            config = config_of(self._options, workload)
            benchmark = TrainingBenchmark(config, subgroup, self._device, self._precision, self._image_set)
            measurement = benchmark.measure(self._options.seconds)
            self._rounds[workload].append(measurement)
            self._gradients[model] = message_bytes(benchmark.gan)
            rate = workers * batch_size * config.grad_accum_steps * config.d_steps / measurement.step_seconds
            share = measurement.communication_seconds / measurement.step_seconds
            logger.info(
                f"{when}: {model}, {workers} x {batch_size} images per step: {rate:,.0f} images/s, "
                f"{share:.0%} of the time in communication"
            )
        self._group.all_gather(None)

    def record(self) -> dict[str, Any]:
        """What scaling.json holds of the measurements."""
        images = len(self._image_set.images)
        rows = [
            _row(workload, rounds, config_of(self._options, workload), images, self._gradients[workload.model])
            for workload, rounds in self._rounds.items()
        ]
        sweeps = [
            {
                "workers": workers,
                "points": [
                    {"bytes": size, "seconds": _median_and_range([seconds[size] for seconds in rounds])}
                    for size in rounds[0]
                ],
            }
            for workers, rounds in self._all_reduces.items()
            if rounds
        ]
        return {"rows": rows, "gradients": self._gradients, "all_reduce": {"sweeps": sweeps} if sweeps else None}


def _row(
    workload: Workload, rounds: Sequence[Measurement], config: TrainConfig, images: int, sizes: dict[str, int]
) -> dict[str, Any]:
    images_per_step = workload.workers * workload.batch_size * config.grad_accum_steps * config.d_steps
    shares = [m.utilization for m in rounds if m.utilization is not None]
    computing = [max(0.0, m.step_seconds - m.data_seconds - m.communication_seconds) for m in rounds]
    return {
        "model": workload.model,
        "workers": workload.workers,
        "batch_size": workload.batch_size,
        "global_batch_size": images_per_step,
        "images_per_second": _median_and_range([images_per_step / m.step_seconds for m in rounds]),
        "step_seconds": _median_and_range([m.step_seconds for m in rounds]),
        "data_seconds": _median_and_range([m.data_seconds for m in rounds]),
        "compute_seconds": _median_and_range(computing),
        "communication_seconds": _median_and_range([m.communication_seconds for m in rounds]),
        "exchanged_bytes": round(bytes_per_step(sizes, config, workload.workers, images // images_per_step)),
        "epoch_seconds": _median_and_range([images // images_per_step * m.step_seconds for m in rounds]),
        "utilization": _median_and_range(shares) if shares else None,
        "memory_bytes": max(m.memory_bytes for m in rounds),
        "rounds": [dataclasses.asdict(m) for m in rounds],
    }


def _median_and_range(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def _conditions(
    options: Scale, image_set: ImageSet, device: torch.device, precision: Precision, hosts: int
) -> dict[str, Any]:
    """What scaling.json says about how everything was measured."""
    return {
        "format": FORMAT,
        "mode": options.mode,
        "workers": options.numbers,
        "batch_sizes": options.sizes_of(options.train_config),
        "models": options.model_names,
        "device": device.type,
        "device_name": device_name(device),
        "backend": "nccl" if device.type == "cuda" else "gloo",
        "precision": precision,
        "threads": torch.get_num_threads(),
        "hosts": hosts,
        "torch": torch.__version__,
        "dataset": image_set.name,
        "dataset_images": len(image_set.images),
        "image_size": options.train_config.image_size,
        "swap_every": options.train_config.swap_every,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "command": ["d3gan", *sys.argv[1:]],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def table(document: dict[str, Any]) -> str:
    """The document's rows as lines of text; efficiency is the throughput per process over that of one process."""
    key = "batch_size" if document["mode"] == "weak" else "global_batch_size"
    alone = {(row["model"], row[key]): row for row in document["rows"] if row["workers"] == 1}
    lines = [
        "model              processes  batch   images/s  efficiency  data  compute  communication  MB/step  busy"
    ]
    for row in document["rows"]:
        rate, step = row["images_per_second"]["median"], row["step_seconds"]["median"]
        one = alone.get((row["model"], row[key]))
        efficiency = f"{rate / row['workers'] / one['images_per_second']['median']:.2f}" if one else "-"
        parts = [f"{row[f'{part}_seconds']['median'] / step:.0%}" for part in ("data", "compute", "communication")]
        busy = f"{row['utilization']['median']:.0%}" if row["utilization"] else "-"
        lines.append(
            f"{row['model']:<18} {row['workers']:>9} {row[key]:>6} {rate:>10,.0f} {efficiency:>11} "
            f"{parts[0]:>5} {parts[1]:>8} {parts[2]:>14} {row['exchanged_bytes'] / 1e6:>8.1f} {busy:>5}"
        )
    return "\n".join(lines)
