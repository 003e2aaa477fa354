"""What a run costs in arithmetic. Imports no torch: a sweep is planned before any network is built.

Counts the multiplications and additions of convolutions and matrix products, two per multiply-accumulate; all else is
below 2 % of them. PyTorch's own counter counts the same (tests/comparison/test_flops.py).
"""

import itertools
from typing import NamedTuple

from d3gan.config.combinations import GRADIENT_PENALTIES
from d3gan.config.train_config import TrainConfig
from d3gan.models.widths import DIMENSIONS, PIECES, innermost_size, stage_multipliers

# Rules that call one discriminator in the generator phase, and what the others read of it, as in training.weighting.
_ONE_HOT = ("argmax", "argmin", "random")
_READS_LOSSES = ("softmax", "hypervolume")


class _Network(NamedTuple):
    """Operations for one image."""

    forward: float
    backward: float
    """The gradients of all weights, and of all inputs but the network's own."""
    first: float
    """The forward pass of the first layer."""
    last: float
    """The forward pass of the last layer."""


def flops_per_image(config: TrainConfig) -> float:
    """Floating-point operations of a training step, per real image; mean over the steps where penalties are lazy.

    A forward pass costs F, the gradients of the weights F again, and those of the input F, which the first layer of a
    network does not need. The step: the generator forward and backward; K discriminators forward and backward on a
    real and a fake image; those discriminators that the rule calls forward, and backward to their input alone. With
    ``grad_accum_steps`` above 1, the generator makes its images twice. Of K discriminators with a shard each, every
    image goes to one.

    Args:
        config: of the run.

    Returns:
        Operations, such as 0.88e9 for D3GAN at 32 x 32 with width 64.
    """
    G, D, recipe = _network(config, generator=True), _network(config, generator=False), config.recipe
    # Each image of an MD-GAN is judged by one of its discriminators.
    K = 1 if recipe.sharded == "on" else recipe.discriminators
    rule, in_parts = recipe.weighting, config.grad_accum_steps > 1
    called = 1 if rule in _ONE_HOT else K

    discriminator_step = 2 * K * (D.forward + D.backward)
    for penalty in config.penalties:
        if penalty.name in GRADIENT_PENALTIES:
            # Forward, the gradient of the image, and twice both for the gradients of the weights; the gradient of the
            # last layer's output is a constant.
            discriminator_step += K * (6 * D.forward - 2 * D.last) / penalty.every

    judged = called * (2 if recipe.loss == "relativistic" else 1) * D.forward
    generator_step = judged + called * D.forward + G.backward
    if in_parts:
        generator_step += G.forward
        if rule in _READS_LOSSES:
            generator_step += G.forward + judged
    if rule == "mgd":
        generator_step += judged + K * (D.forward + G.backward) + (G.forward + judged if in_parts else 0)
    if rule == "bandit":
        generator_step += G.forward + K * D.forward
    return G.forward + discriminator_step + generator_step / config.d_steps


def _network(config: TrainConfig, *, generator: bool) -> _Network:
    if config.resolved_network == "mlp":
        return _mlp(config, generator=generator)
    innermost, width = innermost_size(config.image_size), config.ngf if generator else config.ndf
    widths = [config.nc] + [width * multiplier for multiplier in stage_multipliers(config.image_size)]
    # Each layer between two maps touches 4 x 4 pixels for every pixel of the smaller map.
    sides = [config.image_size // 2**i for i in range(1, len(widths))]
    between = [2.0 * 16 * side**2 * a * b for side, (a, b) in zip(sides, itertools.pairwise(widths), strict=True)]
    ends = 2.0 * innermost**2 * widths[-1] * (config.nz if generator else 1)
    first, last = (ends, between[0]) if generator else (between[0], ends)
    forward = sum(between) + ends
    return _Network(forward, 2 * forward - first, first, last)


def _mlp(config: TrainConfig, *, generator: bool) -> _Network:
    """Of ``d3gan.models.mlp``."""
    width = config.ngf if generator else config.ndf
    outputs = [width] * 4 + [DIMENSIONS] if generator else [width * PIECES] * 3 + [1]
    inputs = [config.nz] + [width] * 4 if generator else [DIMENSIONS] + [width] * 3
    layers = [2.0 * a * b for a, b in zip(inputs, outputs, strict=True)]
    return _Network(sum(layers), 2 * sum(layers) - layers[0], layers[0], layers[-1])
