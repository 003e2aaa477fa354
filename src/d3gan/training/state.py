"""What a run works on, from its first step to its last."""

from dataclasses import dataclass
from typing import Any

from d3gan.config.train_config import TrainConfig
from d3gan.data.load import ImageSet
from d3gan.distributed.group import Group
from d3gan.models.base import GeneratorNetwork
from d3gan.runs.directory import RunDirectory
from d3gan.training.ema import MovingAverage
from d3gan.training.metrics import MetricsLog
from d3gan.training.step import GAN


@dataclass(frozen=True)
class Training:
    """What a run works on, from its first step to its last."""

    run: RunDirectory
    config: TrainConfig
    gan: GAN
    average: MovingAverage | None
    """The moving average of the generator, if the config asks for one."""
    metrics_log: MetricsLog
    image_set: ImageSet

    @property
    def group(self) -> Group:
        """The processes that train; each has all of this, and rank 0 writes."""
        return self.gan.group

    @property
    def batches_per_step(self) -> int:
        """Batches per step, of all processes: a run keeps this number, however they are distributed."""
        if self.gan.workers is not None:
            return self.gan.weighting.K
        return self.group.world_size * self.config.grad_accum_steps

    @property
    def global_batch_size(self) -> int:
        """Real images per update, of all processes."""
        return self.group.world_size * self.config.batch_size * self.config.grad_accum_steps

    def evaluated_generator(self) -> tuple[str, GeneratorNetwork]:
        """The weights that the config wants evaluated, raw or ema, and the generator that has them."""
        if self.average is None or self.config.generator == "raw":
            return "raw", self.gan.generator
        return "ema", self.average.generator

    def parts(self) -> dict[str, Any]:
        """The parts whose state a checkpoint keeps, by their names in it."""
        parts: dict[str, Any] = {**self.gan.modules(), **self.gan.optimizers()}
        return parts if self.average is None else parts | {"average": self.average}
