"""The networks of R3GAN: residual blocks of grouped convolutions, without any normalisation.

Huang, Gokaslan, Kuleshov, Tompkin: The GAN is dead; long live the GAN! A Modern GAN Baseline (arXiv:2501.05441);
layers and first weights as in their program. Published widths are 768 at 32 pixels, 384 at 64 and 96 at 256.

The generator ends in a convolution, not in tanh: its images lie near [-1, 1] because the discriminators ask for it,
and values outside are clipped when images become 8-bit pixels (``d3gan.images.to_uint8``).
"""

import itertools
import math
from typing import cast

import torch
from torch import Tensor, nn

from d3gan.models.base import GeneratorNetwork
from d3gan.models.conditional import Projection, labels_needed
from d3gan.models.widths import R3GAN_BLOCKS, r3gan_group, r3gan_multipliers


class Block(nn.Module):
    """An inverted bottleneck, (N, C, S, S) to the same: 1 x 1 to 2C channels, grouped 3 x 3, 1 x 1, plus the map."""

    def __init__(self, channels: int):
        super().__init__()
        middle = 2 * channels
        self.layers = nn.Sequential(
            nn.Conv2d(channels, middle, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(middle, middle, 3, 1, 1, groups=middle // r3gan_group(channels)),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(middle, channels, 1, bias=False),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """The map and what the layers make of it, added."""
        return maps + cast(Tensor, self.layers(maps))


def _smoothing() -> list[nn.Module]:
    """The filter [1, 2, 1] / 4 along rows and columns, as two of [1, 1] / 2; beyond the border a map counts as 0."""
    return [nn.AvgPool2d(2, 1, 1), nn.AvgPool2d(2, 1)]


def _doubled() -> nn.Module:
    """(N, C, S, S) -> (N, C, 2S, 2S) with the filter [1, 3, 3, 1]: each pixel four times, then smoothed."""
    return nn.Sequential(nn.Upsample(scale_factor=2), *_smoothing())


def _halved() -> nn.Module:
    """(N, C, 2S, 2S) -> (N, C, S, S) with the filter [1, 3, 3, 1]: smoothed, then the mean of four pixels each."""
    return nn.Sequential(*_smoothing(), nn.AvgPool2d(2))


def _stage(channels: int) -> list[nn.Module]:
    """The blocks between two resamplings."""
    return [Block(channels) for _ in range(R3GAN_BLOCKS)]


def _between(inputs: int, outputs: int) -> list[nn.Module]:
    """The convolution between two stages, where they have different widths."""
    return [nn.Conv2d(inputs, outputs, 1, bias=False)] if inputs != outputs else []


class Generator(GeneratorNetwork):
    """Maps latents (N, nz) float to images (N, nc, S, S) float, near [-1, 1].

    A learned 4 x 4 map whose channels are multiplied by a linear function of the latents; stages of blocks, each of
    twice the side of the one before; a 1 x 1 convolution.

    Args:
        image_size: S.
        nz: numbers in a latent vector.
        ngf: channels of the last stage.
        nc: image channels.
        classes: with classes, an embedding of the label in nz numbers stands beside the latents. 0: none.
    """

    def __init__(self, image_size: int = 32, nz: int = 64, ngf: int = 64, nc: int = 3, classes: int = 0):
        super().__init__()
        self.nz, self.sample_shape, self.classes = nz, (nc, image_size, image_size), classes
        self.architecture = dict(network="r3gan", image_size=image_size, nz=nz, ngf=ngf, nc=nc)
        self.architecture |= {"classes": classes} if classes else {}
        widths = [ngf * m for m in reversed(r3gan_multipliers(image_size))]
        self.embedding = nn.Embedding(classes, nz) if classes else None
        self.first = nn.Linear(2 * nz if classes else nz, widths[0], bias=False)
        self.basis = nn.Parameter(torch.zeros(widths[0], 4, 4))
        layers = _stage(widths[0])
        for inner, outer in itertools.pairwise(widths):
            layers += [*_between(inner, outer), _doubled(), *_stage(outer)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], nc, 1, bias=False))

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images for latents (N, nz), with classes also labels (N,) int64."""
        labels = labels_needed(self.classes, labels)
        if self.embedding is not None and labels is not None:
            latents = torch.cat([latents, self.embedding(labels)], dim=1)
        return cast(Tensor, self.layers(self.basis * self.first(latents)[:, :, None, None]))


class Discriminator(nn.Module):
    """Maps images (N, nc, S, S) float to logits (N,): positive means "real". It has no BatchNorm.

    A 1 x 1 convolution; stages of blocks, each of half the side of the one before; a learned 4 x 4 map, with which
    each channel is multiplied and summed (in the program, a convolution with a group per channel); a linear layer.

    Args:
        image_size: S.
        ndf: channels of the first stage.
        nc: image channels.
        classes: with classes, the logit is the product of the last features with an embedding of the label. 0: none.
    """

    def __init__(self, image_size: int = 32, ndf: int = 64, nc: int = 3, classes: int = 0):
        super().__init__()
        self.classes = classes
        widths = [ndf * m for m in r3gan_multipliers(image_size)]
        layers: list[nn.Module] = [nn.Conv2d(nc, ndf, 1, bias=False), *_stage(ndf)]
        for outer, inner in itertools.pairwise(widths):
            layers += [_halved(), *_between(outer, inner), *_stage(inner)]
        self.layers = nn.Sequential(*layers)
        self.basis = nn.Parameter(torch.zeros(widths[-1], 4, 4))
        self.last = nn.Linear(widths[-1], widths[-1] if classes else 1, bias=False)
        self.projection = Projection(classes, widths[-1]) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N,) for images (N, nc, S, S), with classes also labels (N,) int64."""
        labels = labels_needed(self.classes, labels)
        features = cast(Tensor, self.last((self.layers(images) * self.basis).sum(dim=(2, 3))))
        if self.projection is None or labels is None:
            return features.flatten()
        return cast(Tensor, self.projection(features, labels))


def initialize(network: nn.Module, rng: torch.Generator) -> None:
    """Draws a network's first weights: N(0, g² / inputs), where g is √(2 / 1.04) L^(-1/4) inside of L blocks, else 1.

    The last convolution of each block starts at 0, so that a block is the identity. Biases are 0; the generator's
    learned map is N(0, 1). Of an embedding the inputs are the classes; a discriminator's is divided by the root of
    its size.

    Args:
        network: on the CPU, so that every device starts from the same weights.
        rng: the CPU generator to draw from.
    """
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    gains: dict[nn.Module, float] = {}
    for block in blocks:
        first, _, grouped, _, last = block.layers
        gains |= dict.fromkeys((first, grouped), math.sqrt(2 / 1.04) * len(blocks) ** -0.25) | {last: 0.0}
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            deviation = gains.get(module, 1.0) / math.sqrt(module.weight[0].numel())
            nn.init.normal_(module.weight, 0.0, deviation, generator=rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, 0.0, len(module.weight) ** -0.5, generator=rng)
        elif isinstance(module, Projection):
            nn.init.normal_(module.weight, 0.0, module.weight.numel() ** -0.5, generator=rng)
        elif isinstance(module, Generator):
            nn.init.normal_(module.basis, generator=rng)
        elif isinstance(module, Discriminator):
            nn.init.normal_(module.basis, 0.0, module.basis[0].numel() ** -0.5, generator=rng)
