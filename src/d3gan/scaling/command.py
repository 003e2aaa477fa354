"""``d3gan scale``: everything measured in turn, some rounds, into one document with its plots."""

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
from d3gan.scaling.benchmark import Bench, Measured, sweep
from d3gan.scaling.options import Scale
from d3gan.training.setup import images_of

logger = logging.getLogger("d3gan")

FORMAT = 1
SWEEP_SECONDS = 0.2


class Cell(NamedTuple):
    """What is measured at once."""

    model: str
    workers: int
    batch_size: int
    """Of each process."""


def cells_of(options: Scale) -> list[Cell]:
    """All that is to be measured; in strong mode without batch sizes that the processes cannot share evenly."""
    config, cells = options.train_config, []
    for model in options.model_names:
        for size in options.sizes_of(config):
            for workers in options.numbers:
                own, rest = (size, 0) if options.mode == "weak" else divmod(size, workers)
                if own >= 2 and not rest:
                    cells.append(Cell(model, workers, own))
    return cells


def study(options: Scale) -> Path | None:
    """Measures, in the processes that the launcher started, and writes scaling.json and the plots.

    Args:
        options: what the user asked for.

    Returns:
        The folder of the document and the plots, on rank 0; None elsewhere.

    Raises:
        ConfigError: what was asked for does not fit together, or these data.
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
            precision = resolve_precision(config.precision, device)
            image_set = images_of(config)
            _refuse_few_images(options, len(image_set.images))
        hosts = len(set(group.all_gather(hostname())))
        measured = _Study(options, group, device, precision, image_set)
        measured.measure()
        if not group.is_main:
            return None
        document = _described(options, image_set, device, precision, hosts) | measured.figures()
    return _written(document, options)


def _refuse_few_images(options: Scale, images: int) -> None:
    largest = max(cell.workers * cell.batch_size for cell in cells_of(options))
    if largest > images:
        raise ConfigError(f"{largest} images a step are asked for, the data set has {images}; lower --batch-sizes")


class _Study:
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
        self._groups = {workers: group.subgroup(workers) for workers in options.numbers}
        self._rounds: dict[Cell, list[Measured]] = {cell: [] for cell in cells_of(options)}
        self._gradients: dict[str, dict[str, int]] = {}
        self._sweeps: dict[int, list[dict[int, float]]] = {workers: [] for workers in options.numbers if workers > 1}

    def measure(self) -> None:
        """All rounds; processes that a cell does not need wait for the others."""
        for number in range(1, self._options.rounds + 1):
            for cell in self._rounds:
                self._measure_cell(cell, f"round {number} of {self._options.rounds}")
            for workers in self._sweeps if self._options.project else ():
                self._group.heartbeat(f"the sweep of {workers} processes")
                part = self._groups[workers]
                if part is not None:
                    self._sweeps[workers].append(sweep(part, self._device, SWEEP_SECONDS))
                self._group.all_gather(None)

    def _measure_cell(self, cell: Cell, when: str) -> None:
        self._group.heartbeat(f"{cell.model}, {cell.workers} processes, batch size {cell.batch_size}, {when}")
        part = self._groups[cell.workers]
        if part is not None:
            over: dict[str, Any] = {"model": cell.model, "batch_size": cell.batch_size}
            config = dataclasses.replace(self._options.train_config, **over)
            bench = Bench(config, part, self._device, self._precision, self._image_set)
            measured = bench.measure(self._options.seconds)
            self._rounds[cell].append(measured)
            self._gradients[cell.model] = bench.message_bytes()
            rate = cell.workers * cell.batch_size * config.grad_accum_steps / measured.step_seconds
            share = measured.communication_seconds / measured.step_seconds
            logger.info(
                f"{when}: {cell.model}, {cell.workers} x {cell.batch_size} images a step: {rate:,.0f} images/s, "
                f"{share:.0%} of it communication"
            )
        self._group.all_gather(None)

    def figures(self) -> dict[str, Any]:
        """What scaling.json says of the measurements."""
        config = self._options.train_config
        rows = [_row(cell, found, config, len(self._image_set.images)) for cell, found in self._rounds.items()]
        sweeps = [
            {
                "workers": workers,
                "points": [{"bytes": size, "seconds": _spread([f[size] for f in found])} for size in found[0]],
            }
            for workers, found in self._sweeps.items()
            if found
        ]
        return {"rows": rows, "gradients": self._gradients, "all_reduce": {"sweeps": sweeps} if sweeps else None}


def _row(cell: Cell, found: Sequence[Measured], config: TrainConfig, images: int) -> dict[str, Any]:
    together = cell.workers * cell.batch_size * config.grad_accum_steps
    rates = [together / m.step_seconds for m in found]
    shares = [m.utilization for m in found if m.utilization is not None]
    alone = [m.step_seconds - m.data_seconds - m.communication_seconds for m in found]
    return {
        "model": cell.model,
        "workers": cell.workers,
        "batch_size": cell.batch_size,
        "global_batch_size": together,
        "images_per_second": _spread(rates),
        "step_seconds": _spread([m.step_seconds for m in found]),
        "data_seconds": _spread([m.data_seconds for m in found]),
        "compute_seconds": _spread([max(0.0, seconds) for seconds in alone]),
        "communication_seconds": _spread([m.communication_seconds for m in found]),
        "epoch_seconds": _spread([images // together * m.step_seconds for m in found]),
        "utilization": _spread(shares) if shares else None,
        "memory_bytes": max(m.memory_bytes for m in found),
        "rounds": [dataclasses.asdict(m) for m in found],
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def _described(
    options: Scale, image_set: ImageSet, device: torch.device, precision: Precision, hosts: int
) -> dict[str, Any]:
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
        "rounds": options.rounds,
        "seconds": options.seconds,
        "command": ["d3gan", *sys.argv[1:]],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _written(document: dict[str, Any], options: Scale) -> Path:
    from d3gan.scaling.plots import write_plots
    from d3gan.scaling.projection import projection_record

    folder = Path(options.out)
    write_text(folder / "scaling.json", json.dumps(document, indent=1) + "\n")
    if options.project:  # may find that these figures cannot be projected
        document["projection"] = projection_record(document, options.project)
        write_text(folder / "scaling.json", json.dumps(document, indent=1) + "\n")
    write_plots(document, folder, options.published)
    return folder


def table(document: dict[str, Any]) -> str:
    """The document's rows as lines for people; efficiency is the throughput of a process over that of one alone."""
    lines = ["model              processes  batch   images/s  efficiency  data  compute  communication  busy"]
    for row in document["rows"]:
        size = row["batch_size" if document["mode"] == "weak" else "global_batch_size"]
        alone = next((r for r in document["rows"] if _compared(r, row, document["mode"])), None)
        rate, step = row["images_per_second"]["median"], row["step_seconds"]["median"]
        efficiency = f"{rate / row['workers'] / alone['images_per_second']['median']:.2f}" if alone else "-"
        parts = [f"{row[f'{part}_seconds']['median'] / step:.0%}" for part in ("data", "compute", "communication")]
        busy = f"{row['utilization']['median']:.0%}" if row["utilization"] else "-"
        lines.append(
            f"{row['model']:<18} {row['workers']:>9} {size:>6} {rate:>10,.0f} {efficiency:>11} "
            f"{parts[0]:>5} {parts[1]:>8} {parts[2]:>14} {busy:>5}"
        )
    return "\n".join(lines)


def _compared(alone: dict[str, Any], row: dict[str, Any], mode: str) -> bool:
    key = "batch_size" if mode == "weak" else "global_batch_size"
    return bool(alone["workers"] == 1 and alone["model"] == row["model"] and alone[key] == row[key])
