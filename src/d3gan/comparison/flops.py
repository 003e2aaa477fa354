"""What a run costs in arithmetic. Imports no torch: a sweep is planned before any network is built.

Counts the multiplications and additions of convolutions, two per multiply-accumulate; everything else is below 2 % of
them. PyTorch's own counter counts the same (tests/comparison/test_flops.py).
"""

import itertools

from d3gan.config.train_config import TrainConfig
from d3gan.models.widths import innermost_size, stage_multipliers


def flops_per_image(config: TrainConfig) -> float:
    """Floating-point operations of a training step, per real image.

    A forward pass costs F, the gradients of the weights F again, and those of the input F, which the first layer of a
    network does not need. The step: the generator forward and backward; K discriminators forward and backward on a
    real and a fake image; one discriminator forward, and backward to its input alone. With ``grad_accum_steps``
    above 1, the generator makes its images twice.

    Args:
        config: of the run.

    Returns:
        Operations, such as 0.88e9 for D3GAN at 32 x 32 with width 64.
    """
    generator, generator_first = _forward(config, config.ngf, generator=True)
    discriminator, discriminator_first = _forward(config, config.ndf, generator=False)
    K = config.recipe.discriminators
    makes = 2 if config.grad_accum_steps > 1 else 1
    return (
        (makes + 2) * generator
        - generator_first
        + 2 * K * (3 * discriminator - discriminator_first)
        + 2 * discriminator
    )


def _forward(config: TrainConfig, width: int, *, generator: bool) -> tuple[float, float]:
    """Operations of a forward pass for one image: the whole network, and its first layer."""
    innermost = innermost_size(config.image_size)
    widths = [config.nc] + [width * multiplier for multiplier in stage_multipliers(config.image_size)]
    # Each layer between two maps touches 4 x 4 pixels for every pixel of the smaller map.
    sides = [config.image_size // 2**i for i in range(1, len(widths))]
    between = [2.0 * 16 * side**2 * a * b for side, (a, b) in zip(sides, itertools.pairwise(widths), strict=True)]
    ends = 2.0 * innermost**2 * widths[-1] * (config.nz if generator else 1)
    return sum(between) + ends, ends if generator else between[0]
