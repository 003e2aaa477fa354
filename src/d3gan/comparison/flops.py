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
    R3GAN_BLOCKS,
    RESNETS,
    discriminator_width,
    halved,
    innermost_size,
    projection,
    r3gan_group,
    r3gan_multipliers,
    sndcgan_multipliers,
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
    spared: float
    """What a gradient penalty does not need of six forward passes; see ``_chain``."""
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
            each = sum(6 * D.forward - D.spared + 5 * D.fixed for D in networks)
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
    size, width, nc = config.image_size, config.ngf, config.nc
    if config.resolved_network == "mlp":
        return _chain(_mlp(config.nz, [config.ngf] * 4, DIMENSIONS))
    if config.resolved_network == "sndcgan":
        widths = [width * multiplier for multiplier in reversed(sndcgan_multipliers(size))]
        side = halved(size, len(widths) - 1)
        layers = [2.0 * config.nz * widths[0] * side**2]
        for inner, outer in itertools.pairwise(widths):
            layers += [_convolution(4, side, inner, outer)]
            side *= 2
        return _chain([*layers, _convolution(3, side, width, nc)])
    if config.resolved_network == "resnet":
        widths = [width * multiplier for multiplier in reversed(RESNETS[size].generator)]
        side = halved(size, len(widths) - 1)
        layers = [2.0 * config.nz * widths[0] * side**2]
        for inner, outer in itertools.pairwise(widths):
            layers += [_convolution(1, side, inner, outer)]
            side *= 2
            layers += [_convolution(3, side, inner, outer), _convolution(3, side, outer, outer)]
        return _chain([*layers, _convolution(3, side, width, nc)])
    if config.resolved_network == "r3gan":
        widths = [width * multiplier for multiplier in reversed(r3gan_multipliers(size))]
        side = 4
        layers = [2.0 * config.nz * widths[0], *_r3gan_stage(side, widths[0])]
        for inner, outer in itertools.pairwise(widths):
            layers += [_convolution(1, side, inner, outer)] if inner != outer else []
            side *= 2
            layers += _r3gan_stage(side, outer)
        return _chain([*layers, _convolution(1, side, width, nc)])
    return _chain(_dcgan(size, width, nc, config.nz)[::-1])


def _discriminator(config: TrainConfig, k: int) -> _Network:
    """Discriminator k, as ``d3gan.training.setup`` builds it."""
    size, width, nc, fixed = config.image_size, config.ndf, config.nc, 0.0
    side = size
    if "width" in config.view_names:
        width = discriminator_width(width, k, config.recipe.discriminators)
    projects = "projection" in config.view_names
    if config.resolved_network == "mlp":
        layers = _mlp(1 if projects else DIMENSIONS, [width] * 3, 1, PIECES)
        return _chain(layers, 2.0 * DIMENSIONS if projects else 0.0)
    if projects:
        projected = projection(size)
        fixed = 2.0 * projected.kernel**2 * nc * projected.side**2
        size, side, nc = projected.image_size, projected.side, 1
    if config.resolved_network == "sndcgan":
        widths = [width * multiplier for multiplier in sndcgan_multipliers(size)]
        layers = [_convolution(3, side, nc, width)]
        for outer, inner in itertools.pairwise(widths):
            side //= 2
            layers += [_convolution(4, side, outer, inner), _convolution(3, side, inner, inner)]
        return _chain([*layers, 2.0 * widths[-1] * side**2], fixed)
    if config.resolved_network == "resnet":
        widths = [nc, *(width * multiplier for multiplier in RESNETS[size].discriminator)]
        layers = []
        for i, (outer, inner) in enumerate(itertools.pairwise(widths)):
            hidden, down = inner if i == 0 else outer, i < RESNETS[size].halvings
            layers += [_convolution(3, side, outer, hidden), _convolution(3, side, hidden, inner)]
            side //= 2 if down else 1
            if down or outer != inner:
                layers += [_convolution(1, side, outer, inner)]
        first, second, shortcut, *others = layers
        return _chain([first + shortcut, second, *others, 2.0 * widths[-1]], fixed)
    if config.resolved_network == "r3gan":
        widths = [width * multiplier for multiplier in r3gan_multipliers(size)]
        layers = [_convolution(1, side, nc, width), *_r3gan_stage(side, width)]
        for outer, inner in itertools.pairwise(widths):
            side //= 2
            layers += [_convolution(1, side, outer, inner)] if inner != outer else []
            layers += _r3gan_stage(side, inner)
        # No activation comes after the last block, so its last convolution spares two passes as well.
        return _chain([*layers, 2.0 * widths[-1]], fixed, spared=2 * layers[-1] + 6.0 * widths[-1])
    layers = _dcgan(size, width, nc, 1)
    return _chain(layers, fixed, spared=2 * layers[-1])


def _chain(layers: list[float], fixed: float = 0.0, *, spared: float | None = None) -> _Network:
    """A network of layers one after the other.

    Args:
        layers: operations of each one's forward pass; the first are those of all layers that see the network's input.
        fixed: those of a layer before them that nothing trains.
        spared: what a gradient penalty does not need of six forward passes. Default: three times the last layer,
            which is linear; of a convolution PyTorch leaves out two passes.
    """
    forward = sum(layers)
    return _Network(forward, 2 * forward - layers[0], 3 * layers[-1] if spared is None else spared, fixed)


def _convolution(kernel: int, side: int, inputs: int, outputs: int) -> float:
    """Operations of a convolution whose output has this side, or of a transposed one whose input has it."""
    return 2.0 * kernel**2 * side**2 * inputs * outputs


def _r3gan_stage(side: int, channels: int) -> list[float]:
    """Operations of each layer of the blocks that ``d3gan.models.r3gan`` has at one resolution."""
    outer, grouped = _convolution(1, side, channels, 2 * channels), r3gan_group(channels)
    return [outer, _convolution(3, side, 2 * channels, grouped), outer] * R3GAN_BLOCKS


def _mlp(inputs: int, widths: list[int], outputs: int, pieces: int = 1) -> list[float]:
    """Operations of each layer of a network of ``d3gan.models.mlp``."""
    sizes = zip([inputs, *widths], [*(width * pieces for width in widths), outputs], strict=True)
    return [2.0 * a * b for a, b in sizes]


def _dcgan(image_size: int, width: int, nc: int, ends: int) -> list[float]:
    """Operations of each layer of a network of ``d3gan.models.dcgan``, from the image inwards.

    Args:
        image_size: side of the images in pixels.
        width: channels next to the image.
        nc: image channels.
        ends: numbers at the network's other end: the latents or the logit.
    """
    widths = [nc] + [width * multiplier for multiplier in stage_multipliers(image_size)]
    # Each layer between two maps touches 4 x 4 pixels for every pixel of the smaller map.
    sides = [image_size // 2**i for i in range(1, len(widths))]
    between = [_convolution(4, side, a, b) for side, (a, b) in zip(sides, itertools.pairwise(widths), strict=True)]
    return [*between, 2.0 * innermost_size(image_size) ** 2 * widths[-1] * ends]
