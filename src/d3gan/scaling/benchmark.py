"""One measurement of training by some processes: what a step takes, and what of it is data and communication."""

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
from d3gan.training.step import GAN, running_statistics
from d3gan.training.stopwatch import Stopwatch

WARM_UP = 3  # steps: the first ones choose algorithms and allocate memory
LEAST_STEPS = 2
TURNS = 3  # a step with exchanges and one without are measured in turn: machines are noisy
# Message sizes in bytes: from one that is all latency to one that is all bandwidth.
MESSAGES = tuple(4**power for power in range(5, 14))


@dataclass(frozen=True)
class Measured:
    """Seconds of a step, means over the steps of the slowest process."""

    step_seconds: float
    """A whole step, from its data to the end of its updates."""
    data_seconds: float
    """Of it, waiting for images and latents."""
    communication_seconds: float
    """Of it, what is gained by leaving out every exchange with other processes."""
    utilization: float | None
    """Mean over the processes, 0 to 1."""
    memory_bytes: int
    """Of the largest process: the most of its GPU during the measurement, or its own where it has none, after it."""


class Bench:
    """Training by a group of processes, ready to be measured; all of them make one.

    Args:
        config: model, batch size and networks.
        group: the processes.
        device: this process's.
        precision: of the arithmetic.
        image_set: what is trained on.
    """

    def __init__(
        self, config: TrainConfig, group: Group, device: torch.device, precision: Precision, image_set: ImageSet
    ):
        self._config, self._group, self._device = config, group, device
        self._inputs, self._step = StepInputs(config, image_set.images, group, device, network_dtype(precision)), 0
        self.gan = build_gan(config, device, precision, group)
        self._train_step = step_in_parts(config.grad_accum_steps)
        # The same networks without what binds them to other processes' networks.
        self._alone = dataclasses.replace(
            self.gan, ddp_generator=self.gan.generator, ddp_discriminators=self.gan.discriminators, group=Group()
        )

    def measure(self, seconds: float) -> Measured:
        """Measures for about so many seconds, after the warm-up; all processes of the group call it."""
        several = self._group.world_size > 1
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        steps = self._steps_in(seconds / TURNS / (2 if several else 1))
        turns = [self._turn(steps, several) for _ in range(TURNS)]
        whole, data, alone = (statistics.fmean(seconds[i] for seconds, _ in turns) for i in range(3))
        shares = [busy for _, busy in turns if busy is not None]
        share = statistics.fmean(shares) if shares else None
        everyones = self._group.all_gather((whole, data, alone, share, _memory(self._device)))
        wholes, datas, alones, all_shares, memories = zip(*everyones, strict=True)
        known: list[float] = [share for share in all_shares if share is not None]
        return Measured(
            max(wholes),
            max(datas),
            max(0.0, max(wholes) - max(alones)),
            statistics.fmean(known) if known else None,
            max(memories),
        )

    def _turn(self, steps: int, several: bool) -> tuple[tuple[float, float, float], float | None]:
        """Seconds of a step, of its data and of a step without exchanges; how busy the device was."""
        with Utilization(self._device) as utilization:
            whole, data = self._timed(self.gan, steps)
        alone = self._timed(self._alone, steps)[0] if several else whole
        return (whole, data, alone), utilization.share

    def _steps_in(self, seconds: float) -> int:
        """A number of steps that takes about so long, the same in all processes."""
        self._timed(self.gan, WARM_UP)
        each, _ = self._timed(self.gan, 1)
        return int(self._group.broadcast(max(LEAST_STEPS, math.ceil(seconds / each))))

    def _timed(self, gan: GAN, steps: int) -> tuple[float, float]:
        """Seconds of a step, and of its data, mean over ``steps``."""
        stopwatch = Stopwatch(self._device)
        self._group.all_gather(None)  # all begin together
        stopwatch.restart()
        for _ in range(steps):
            with stopwatch.data():
                real_images, latents = self._inputs.at(self._step)
            self._train_step(gan, real_images, latents)
            self._step += 1
            self._group.to_stop()  # as the loop does
        whole, data = stopwatch.lap()
        return whole / steps, data / steps

    def message_bytes(self) -> dict[str, int]:
        """What a step exchanges, in bytes: the gradients of each network, and the small figures."""
        networks = {"generator": self.gan.generator, "discriminator": self.gan.discriminators}
        found = {
            f"{name}_bytes": sum(p.numel() * p.element_size() for p in network.parameters())
            for name, network in networks.items()
        }
        statistics = running_statistics(self.gan.generator)
        numbers = sum(s.numel() for s in statistics) + 2 * len(self.gan.discriminators) + 1
        return found | {"exchange_bytes": numbers * statistics[0].element_size()}


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def sweep(group: Group, device: torch.device, seconds: float) -> dict[int, float]:
    """Seconds of an all-reduce by message size in bytes, of the slowest process; all processes of the group call it.

    Args:
        group: the processes, at least two.
        device: this process's.
        seconds: how long to measure each size, about.
    """
    found = {}
    for size in MESSAGES:
        message = torch.zeros(size // 4, device=device)
        once = _all_reduce_seconds(group, message, 3)
        count = int(group.broadcast(max(3, math.ceil(seconds / once))))
        found[size] = max(group.all_gather(_all_reduce_seconds(group, message, count)))
    return found


def _all_reduce_seconds(group: Group, message: torch.Tensor, count: int) -> float:
    group.all_gather(None)
    begin = time.perf_counter()
    for _ in range(count):
        torch.distributed.all_reduce(message, group=group.processes)
    if message.device.type == "cuda":
        torch.cuda.synchronize(message.device)
    return (time.perf_counter() - begin) / count
