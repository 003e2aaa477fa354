"""An exponential moving average of the generator: a second generator whose images change less from step to step."""

import copy

import torch

from d3gan.models.dcgan import Generator


class MovingAverage:
    """Averages a generator's weights and its BatchNorm statistics over the steps.

    The statistics are averaged with the weights, so that the averaged generator has statistics of its own (in eval
    mode a generator with averaged weights and the last step's statistics is neither one nor the other). During the
    first steps the decay is lowered to (1 + step) / (10 + step), or the average would remember the first weights for
    1 / (1 - decay) steps; the rule is that of TensorFlow's ExponentialMovingAverage.

    Args:
        generator: the one that is trained; the average starts as a copy of it.
        decay: the share of the old average that a step keeps, 0 < decay < 1.
    """

    def __init__(self, generator: Generator, decay: float):
        self.generator = copy.deepcopy(generator).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, generator: Generator, step: int) -> None:
        """Adds the generator's weights after ``step`` steps (from 1); nothing waits for the device."""
        weight = 1.0 - min(self._decay, (1 + step) / (10 + step))
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
