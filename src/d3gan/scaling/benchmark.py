"""Measures training by some processes: the seconds per step, and how many of them are data and communication."""

import dataclasses
import math
import statistics
import time
from dataclasses import dataclass

import psutil
import torch
import torch.distributed

from d3gan.config.train_config import TrainConfig
from d3gan.data.load import ImageSet
from d3gan.devices import Precision, network_dtype
from d3gan.distributed.group import Group
from d3gan.scaling.utilization import Utilization
from d3gan.training.accumulation import step_in_parts
from d3gan.training.inputs import StepInputs
from d3gan.training.setup import build_gan
from d3gan.training.step import GAN
from d3gan.training.stopwatch import Stopwatch

WARM_UP = 3  # steps: the first ones choose algorithms and allocate memory
LEAST_STEPS = 2
TURNS = 3  # steps with and without exchanges alternate, because the speed of machines varies
# Message sizes in bytes: from one that is all latency to one that is all bandwidth.
MESSAGES = tuple(4**power for power in range(5, 14))


@dataclass(frozen=True)
class Measurement:
    """Seconds per step, means over the steps of the slowest process."""

    step_seconds: float
    """A whole step, from its data to the end of its updates."""
    data_seconds: float
    """Of it, waiting for images and latents."""
    communication_seconds: float
    """Of it, what is saved by leaving out every exchange with other processes."""
    utilization: float | None
    """Mean over the processes, 0 to 1; None where it cannot be measured."""
    memory_bytes: int
    """Of the largest process: the peak of its GPU's memory while measuring; without a GPU its own afterwards."""


class TrainingBenchmark:
    """Training by a group of processes, ready to be measured. All processes of the group create one.

    Args:
        config: model, batch size and networks.
        group: the processes.
        device: that this process computes on.
        precision: of the arithmetic.
        image_set: the images to train on.
    """

    def __init__(
        self, config: TrainConfig, group: Group, device: torch.device, precision: Precision, image_set: ImageSet
    ):
        self._config, self._group, self._device = config, group, device
        dtype, labels = network_dtype(precision), image_set.labels
        self._inputs, self._step = StepInputs(config, image_set.images, group, device, dtype, labels), 0
        self.gan = build_gan(config, device, precision, group, len(image_set.class_names))
        self._train_step = step_in_parts(config.grad_accum_steps, self.gan.workers is not None)
        # The same networks without the wrappers that exchange gradients with other processes.
        self._alone = dataclasses.replace(
            self.gan, ddp_generator=self.gan.generator, ddp_discriminators=self.gan.discriminators, group=Group()
        )

    def measure(self, seconds: float) -> Measurement:
        """Measures for about this many seconds, after the warm-up; all processes of the group call it."""
        exchanges = self._group.world_size > 1
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._timed(self.gan, WARM_UP)
        seconds_per_step, _ = self._timed(self.gan, 1)
        steps = max(LEAST_STEPS, math.ceil(seconds / TURNS / (2 if exchanges else 1) / seconds_per_step))
        steps = int(self._group.broadcast(steps))
        turns, shares = [], []
        for _ in range(TURNS):
            with Utilization(self._device) as utilization:
                whole, data = self._timed(self.gan, steps)
            turns.append((whole, data, self._timed(self._alone, steps)[0] if exchanges else whole))
            if utilization.share is not None:
                shares.append(utilization.share)
        whole, data, alone = (statistics.fmean(column) for column in zip(*turns, strict=True))
        share = statistics.fmean(shares) if shares else None
        of_all_ranks = self._group.all_gather((whole, data, alone, share, _memory(self._device)))
        wholes, datas, alones, all_shares, memories = zip(*of_all_ranks, strict=True)
        measured_shares: list[float] = [share for share in all_shares if share is not None]
        return Measurement(
            max(wholes),
            max(datas),
            max(0.0, max(wholes) - max(alones)),
            statistics.fmean(measured_shares) if measured_shares else None,
            max(memories),
        )

    def _timed(self, gan: GAN, steps: int) -> tuple[float, float]:
        """Seconds per step, and those of its data, means over ``steps``."""
        stopwatch = Stopwatch(self._device)
        self._group.all_gather(None)  # all begin together
        stopwatch.restart()
        for _ in range(steps):
            with stopwatch.data():
                real_images, latents, context = self._inputs.at(self._step)
            self._train_step(gan, real_images, latents, context)
            self._step += 1
            self._group.to_stop()  # as the training loop does
        whole, data = stopwatch.lap()
        return whole / steps, data / steps


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def all_reduce_seconds(group: Group, device: torch.device, seconds: float) -> dict[int, float]:
    """Seconds of an all-reduce by message size in bytes, of the slowest process; all processes of the group call it.

    Args:
        group: at least two processes.
        device: that this process computes on.
        seconds: to measure each size, about.
    """
    seconds_by_size = {}
    for size in MESSAGES:
        message = torch.zeros(size // 4, device=device)
        once = _mean_seconds(group, message, 3)
        count = int(group.broadcast(max(3, math.ceil(seconds / once))))
        seconds_by_size[size] = max(group.all_gather(_mean_seconds(group, message, count)))
    return seconds_by_size


def _mean_seconds(group: Group, message: torch.Tensor, count: int) -> float:
    """Seconds of one of ``count`` all-reduces in a row."""
    group.all_gather(None)  # all begin together
    begin = time.perf_counter()
    for _ in range(count):
        torch.distributed.all_reduce(message, group=group.processes)
    if message.device.type == "cuda":
        torch.cuda.synchronize(message.device)
    return (time.perf_counter() - begin) / count
