"""What a run costs in arithmetic. Imports no torch: a sweep is planned before any network is built.

Counts the multiplications and additions of convolutions and matrix products, two per multiply-accumulate; all else is
below 2 % of them. PyTorch's own counter counts the same (tests/comparison/test_flops.py).
"""

import itertools
from typing import NamedTuple

from d3gan.config.combinations import GRADIENT_PENALTIES
from d3gan.config.train_config import TrainConfig
from d3gan.models.widths import (
    DIMENSIONS,
    PIECES,
    discriminator_width,
    innermost_size,
    projection,
    stage_multipliers,
)

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
    fixed: float = 0.0
    """The forward pass of a layer before them that nothing trains: a random projection."""


def flops_per_image(config: TrainConfig) -> float:
    """Floating-point operations of a training step, per real image; mean over the steps where penalties are lazy.

    A forward pass costs F, the gradients of the weights F again, and those of the input F, which the first layer of a
    network does not need. The step: the generator forward and backward; K discriminators forward and backward on a
    real and a fake image; those discriminators that the rule calls forward, and backward to their input alone. With
    ``grad_accum_steps`` above 1, the generator makes its images twice. Of discriminators with slices or shards each
    sees one image in K. Where a rule calls one of several that have different widths, the mean over them counts; on
    an accelerator all of them are called then, which is not counted.

    Args:
        config: of the run.

    Returns:
        Operations, such as 0.88e9 for D3GAN at 32 x 32 with width 64.
    """
    G, recipe = _generator(config), config.recipe
    networks = [_discriminator(config, k) for k in range(recipe.discriminators)]
    K, rule, in_parts = recipe.discriminators, recipe.weighting, config.grad_accum_steps > 1
    called = 1 / K if rule in _ONE_HOT else 1  # of the discriminators, in the generator phase
    # Of a batch, by each.
    seen = 1 / K if "slice" in config.view_names or recipe.sharded == "on" else 1
    # All discriminators on one image each: forward, and backward in either phase.
    forward = sum(D.fixed + D.forward for D in networks)
    backward = sum(D.backward for D in networks)

    discriminator_step = 2 * seen * (forward + backward)
    for penalty in config.penalties:
        if penalty.name in GRADIENT_PENALTIES:
            # Forward, the gradient of the image, and twice both for the gradients of the weights, of which a fixed
            # layer lacks one; the gradient of the last layer's output is a constant.
            each = sum(6 * D.forward - 2 * D.last + 5 * D.fixed for D in networks)
            discriminator_step += seen * each / penalty.every
    if recipe.duel_beta:
        # Two mixtures with gradients and one without, of an even number of images.
        discriminator_step += (3 * forward + 2 * backward) * (config.batch_size // 2 * 2 / config.batch_size)
    judged = called * seen * (2 if recipe.loss == "relativistic" else 1) * forward
    to_image = called * seen * forward  # the gradient of the image costs what the forward pass does
    if recipe.microbatch_alpha:
        discriminator_step += (1 - seen) * (forward + backward)
        judged += called * (1 - seen) * forward
        to_image += called * (1 - seen) * forward

    generator_step = judged + to_image + G.backward
    if in_parts:
        generator_step += G.forward
        if rule in _READS_LOSSES:
            generator_step += G.forward + judged
    if rule == "mgd":
        generator_step += judged + to_image + K * G.backward + (G.forward + judged if in_parts else 0)
    if rule == "bandit":
        generator_step += G.forward + seen * forward
    return G.forward + discriminator_step + generator_step / config.d_steps


def _generator(config: TrainConfig) -> _Network:
    if config.resolved_network == "mlp":
        forward, first, last = _mlp(config.nz, [config.ngf] * 4, DIMENSIONS)
        return _Network(forward, 2 * forward - first, first, last)
    forward, outermost, innermost = _layers(config.image_size, config.ngf, config.nc, config.nz)
    return _Network(forward, 2 * forward - innermost, innermost, outermost)


def _discriminator(config: TrainConfig, k: int) -> _Network:
    """Discriminator k, as ``d3gan.training.setup`` builds it."""
    size, width, nc, fixed = config.image_size, config.ndf, config.nc, 0.0
    if "width" in config.view_names:
        width = discriminator_width(width, k, config.recipe.discriminators)
    projects = "projection" in config.view_names
    if config.resolved_network == "mlp":
        forward, first, last = _mlp(1 if projects else DIMENSIONS, [width] * 3, 1, PIECES)
        return _Network(forward, 2 * forward - first, first, last, 2.0 * DIMENSIONS if projects else 0.0)
    if projects:
        projected = projection(size)
        fixed = 2.0 * projected.kernel**2 * nc * projected.side**2
        size, nc = projected.image_size, 1
    forward, outermost, innermost = _layers(size, width, nc, 1)
    return _Network(forward, 2 * forward - outermost, outermost, innermost, fixed)


def _mlp(inputs: int, widths: list[int], outputs: int, pieces: int = 1) -> tuple[float, float, float]:
    """Operations of all layers of a network of ``d3gan.models.mlp``, of the first one and of the last one."""
    sizes = zip([inputs, *widths], [*(width * pieces for width in widths), outputs], strict=True)
    layers = [2.0 * a * b for a, b in sizes]
    return sum(layers), layers[0], layers[-1]


def _layers(image_size: int, width: int, nc: int, ends: int) -> tuple[float, float, float]:
    """Operations of all layers of a network, of the one at the image, and of the one at the latents or the logit.

    Args:
        image_size: side of the images in pixels.
        width: channels next to the image.
        nc: image channels.
        ends: numbers at the network's other end.
    """
    widths = [nc] + [width * multiplier for multiplier in stage_multipliers(image_size)]
    # Each layer between two maps touches 4 x 4 pixels for every pixel of the smaller map.
    sides = [image_size // 2**i for i in range(1, len(widths))]
    between = [2.0 * 16 * side**2 * a * b for side, (a, b) in zip(sides, itertools.pairwise(widths), strict=True)]
    innermost = 2.0 * innermost_size(image_size) ** 2 * widths[-1] * ends
    return sum(between) + innermost, between[0], innermost
