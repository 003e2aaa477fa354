"""metrics.jsonl: losses stay on the device, and every ``log_every`` steps their means are copied and written."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from d3gan.augmentation.ada import AdaptiveAugmentation
from d3gan.distributed.group import Group
from d3gan.errors import TrainingDivergedError
from d3gan.files import disk_errors
from d3gan.memory import peak_device_memory, peak_memory
from d3gan.training.step import GAN, StepResult
from d3gan.training.stopwatch import Stopwatch


class MetricsLog:
    """Collects the results of steps, and writes one line of metrics.jsonl for each ``log_every`` of them.

    Each process has one, and all call ``log`` and ``state`` at the same steps; rank 0 writes.

    Args:
        path: metrics.jsonl.
        gan: whose steps are logged.
        images_per_step: real images per step, of all processes.
        global_batch_size: those of one update.
        steps_per_epoch: steps per epoch.
        device: where the results are.
        group: the processes whose mean is written.
    """

    def __init__(
        self,
        path: Path,
        gan: GAN,
        images_per_step: int,
        global_batch_size: int,
        steps_per_epoch: int,
        device: torch.device,
        group: Group | None = None,
    ):
        self._path, self._device, self._group = path, device, group or Group()
        self._images_per_step, self._global_batch_size = images_per_step, global_batch_size
        self._steps_per_epoch = steps_per_epoch
        self._K = gan.weighting.K
        penalties = ("penalties",) if gan.penalties or gan.terms else ()
        self._lists = ("weights", "real_losses", "fake_losses", *penalties)
        self._ada = ("ada_p", "ada_r") if isinstance(gan.augmentation, AdaptiveAugmentation) else ()
        self.stopwatch = Stopwatch(device)
        self._width = 1 + len(self._lists) * self._K + len(self._ada)
        self._rows: list[Tensor] = []
        self._local_rows = 0  # the last rows, which hold this process's generator loss and not yet the mean
        self._lap = [0.0, 0.0]
        self._training_seconds = 0.0
        self.logged_step = 0
        """The last step that metrics.jsonl may contain when the run is resumed."""

    def record(self, result: StepResult) -> None:
        """Keeps a step's losses on the device; nothing is copied to the host."""
        lists = [getattr(result, name).float() for name in self._lists]
        ada = [result.ada.float()] if result.ada is not None else []
        self._rows.append(torch.cat([result.generator_loss.float()[None], *lists, *ada]))
        self._local_rows += 1

    def log(
        self,
        step: int,
        learning_rate: float,
        learning_rate_d: float,
        diagnostics: Mapping[str, Any] = MappingProxyType({}),
        *,
        last: bool = False,
    ) -> dict[str, Any]:
        """Writes the means over the steps since the last line, at least one.

        Args:
            step: steps done.
            learning_rate: of the generator in the last step.
            learning_rate_d: of the discriminators.
            diagnostics: what ``diagnose`` found, for the line.
            last: this session ends here, maybe between two lines. The steps are kept, so that a resumed run writes
                the same lines as one that never stopped.

        Returns:
            The line written to metrics.jsonl.

        Raises:
            TrainingDivergedError: a loss is NaN or infinite.
            ExternalError: metrics.jsonl cannot be written.
        """
        self._take_lap()
        line = self._summary(step, self._host_rows(step)) | {"learning_rate": learning_rate}
        line |= {"learning_rate_d": learning_rate_d, **diagnostics}
        if self._group.is_main:
            with disk_errors(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        if not last:
            self._rows, self._lap, self.logged_step = [], [0.0, 0.0], step
        return line

    def training_seconds(self) -> float:
        """Seconds of training so far, this call of ``train`` and earlier ones."""
        self._take_lap()
        return self._training_seconds

    def _take_lap(self) -> None:
        seconds, data_seconds = self.stopwatch.lap()
        self._lap = [self._lap[0] + seconds, self._lap[1] + data_seconds]
        self._training_seconds += seconds

    def _host_rows(self, step: int) -> Tensor:
        """Rows (steps, 1 + K for each list) float32 on the host, all finite."""
        self._average_generator_losses()
        rows = torch.stack(self._rows).cpu() if self._rows else torch.empty(0, self._width)
        bad = (~rows.isfinite()).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            raise TrainingDivergedError(
                f"step {step - len(rows) + row + 1}: {self._column_name(column)} is {rows[row, column].item()}"
            )
        return rows

    def _average_generator_losses(self) -> None:
        """Averages the one loss that steps do not exchange, over the processes; each once, so that its bits stay."""
        first = len(self._rows) - self._local_rows
        if self._group.world_size > 1 and self._local_rows:
            # In the order of the ranks: the order in an all-reduce depends on a number's position.
            losses = torch.stack(self._rows[first:])[:, 0].cpu()
            means = torch.stack(self._group.all_gather(losses)).mean(dim=0)
            for row, mean in zip(self._rows[first:], means, strict=True):
                row[0] = mean
        self._local_rows = 0

    def _column_name(self, column: int) -> str:
        if column == 0:
            return "the generator loss"
        number, discriminator = divmod(column - 1, self._K)
        if number >= len(self._lists):
            return self._ada[column - 1 - len(self._lists) * self._K]
        words = {"weights": "weight", "real_losses": "real loss", "fake_losses": "fake loss", "penalties": "penalty"}
        return f"the {words[self._lists[number]]} of discriminator {discriminator}"

    def _summary(self, step: int, rows: Tensor) -> dict[str, Any]:
        K, means = self._K, rows.double().mean(dim=0).tolist()
        seconds, data_seconds = self._lap
        images = len(rows) * self._images_per_step
        return {
            "step": step,
            "images_seen": step * self._images_per_step,
            "global_batch_size": self._global_batch_size,
            "epoch": round(step / self._steps_per_epoch, 6),
            "generator_loss": means[0],
            **{name: means[1 + i * K : 1 + (i + 1) * K] for i, name in enumerate(self._lists)},
            **dict(zip(self._ada, means[1 + len(self._lists) * K :], strict=True)),
            "images_per_second": round(images / seconds, 3),
            "images_per_second_without_data": _rounded_ratio(images, seconds - data_seconds),
            "training_seconds": round(self._training_seconds, 3),
            "peak_memory_bytes": peak_memory(),
            "peak_device_memory_bytes": peak_device_memory(self._device),
        }

    def state(self, step: int) -> dict[str, Any]:
        """What a checkpoint keeps of the steps since the last line.

        Raises:
            TrainingDivergedError: a loss among them is NaN or infinite.
        """
        self._take_lap()
        self._sync()
        return {
            "rows": self._host_rows(step),
            "lap": list(self._lap),
            "training_seconds": self._training_seconds,
            "logged_step": self.logged_step,
        }

    def _sync(self) -> None:
        """Flushes metrics.jsonl to the disk before a checkpoint refers to it."""
        if self._group.is_main and self._path.exists():
            with disk_errors(self._path), self._path.open("a") as file:
                os.fsync(file.fileno())

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores what a checkpoint kept.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is of a run with other lists of losses.
        """
        rows = state["rows"].to(self._device)
        if rows.ndim != 2 or rows.shape[1] != self._width:
            raise ValueError(f"the losses of the last steps have the shape {tuple(rows.shape)}")
        self._rows = list(rows)
        self._local_rows = 0
        self._lap = [float(seconds) for seconds in state["lap"]]
        self._training_seconds = float(state["training_seconds"])
        self.logged_step = int(state["logged_step"])


def _rounded_ratio(images: int, seconds: float) -> float | None:
    return round(images / seconds, 3) if seconds > 0 and math.isfinite(seconds) else None
