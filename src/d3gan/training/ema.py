"""An exponential moving average of the generator: a second generator whose images change less from step to step."""

import copy
from collections.abc import Callable

import torch

from d3gan.config.train_config import TrainConfig
from d3gan.models.base import GeneratorNetwork


def decay_of(config: TrainConfig, images_per_step: int) -> Callable[[int], float]:
    """The share of the old average that a step (from 1) keeps.

    During the first steps it is smaller, or the average would remember the first weights for long. With ``ema`` it is
    at most (1 + step) / (10 + step), the rule of TensorFlow's ExponentialMovingAverage. With ``ema_half_life`` it is
    (1/2)^(images per step / half-life), where the half-life is at most ``ema_ramp_up`` times the images seen
    (Karras et al., arXiv:2006.06676, training loop).

    Args:
        config: keeps an average.
        images_per_step: of all processes.
    """
    if config.ema:
        return lambda step: min(config.ema, (1 + step) / (10 + step))

    def decay(step: int) -> float:
        half_life = float(config.ema_half_life)
        if config.ema_ramp_up > 0:
            half_life = min(half_life, config.ema_ramp_up * images_per_step * step)
        return float(0.5 ** (images_per_step / half_life))

    return decay


class MovingAverage:
    """Averages a generator's weights and its BatchNorm statistics over the steps.

    The statistics are averaged with the weights, so that the averaged generator has statistics of its own (in eval
    mode a generator with averaged weights and the last step's statistics is neither one nor the other).

    Args:
        generator: the one that is trained; the average starts as a copy of it.
        decay: step (from 1) -> the share of the old average that the step keeps, 0 <= share < 1.
    """

    def __init__(self, generator: GeneratorNetwork, decay: Callable[[int], float]):
        self.generator = copy.deepcopy(generator).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, generator: GeneratorNetwork, step: int) -> None:
        """Adds the generator's weights after ``step`` steps (from 1); nothing waits for the device."""
        weight = 1.0 - self._decay(step)
        for average, current in zip(
            self.generator.state_dict().values(), generator.state_dict().values(), strict=True
        ):
            if average.is_floating_point():
                average.lerp_(current, weight)
            else:  # BatchNorm's count of batches
                average.copy_(current)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What a checkpoint keeps."""
        return self.generator.state_dict()

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores what a checkpoint kept."""
        self.generator.load_state_dict(state)
