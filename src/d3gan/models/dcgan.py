"""The DCGAN generator and discriminator at any power-of-two resolution.

Radford, Metz, Chintala: Unsupervised Representation Learning with Deep Convolutional GANs (arXiv:1511.06434). At
32 x 32 the layers are those of the published D3GAN programs: 2,962,304 and 2,759,424 parameters with width 64 and
three channels.
"""

import itertools
from typing import cast

import torch
from torch import Tensor, nn

from d3gan.models.base import ACTIVATIONS, GeneratorNetwork
from d3gan.models.conditional import Projection, batch_norm, call_layers, labels_needed, with_projection
from d3gan.models.widths import innermost_size, stage_multipliers


class Generator(GeneratorNetwork):
    """Maps latents (N, nz) float to images (N, nc, S, S) float in [-1, 1].

    Args:
        image_size: S.
        nz: numbers in a latent vector.
        ngf: channels of the last feature maps.
        nc: image channels.
        activation: after each BatchNorm.
        classes: with classes, every BatchNorm is conditional. 0: none.
    """

    def __init__(
        self,
        image_size: int = 32,
        nz: int = 100,
        ngf: int = 64,
        nc: int = 3,
        activation: str = "relu",
        classes: int = 0,
    ):
        super().__init__()
        self.nz, self.sample_shape, self.classes = nz, (nc, image_size, image_size), classes
        self.architecture = dict(image_size=image_size, nz=nz, ngf=ngf, nc=nc, activation=activation)
        self.architecture |= {"classes": classes} if classes else {}
        widths = [ngf * m for m in reversed(stage_multipliers(image_size))]
        first = nn.ConvTranspose2d(nz, widths[0], innermost_size(image_size), 1, 0, bias=False)
        layers: list[nn.Module] = [first, batch_norm(widths[0], classes), ACTIVATIONS[activation]()]
        for inner, outer in itertools.pairwise(widths):
            layers += [nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=False), batch_norm(outer, classes)]
            layers += [ACTIVATIONS[activation]()]
        layers += [nn.ConvTranspose2d(widths[-1], nc, 4, 2, 1, bias=False), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images for latents (N, nz), with classes also labels (N,) int64."""
        return call_layers(self.layers, latents[:, :, None, None], labels_needed(self.classes, labels))


class Discriminator(nn.Module):
    """Maps images (N, nc, S, S) float in [-1, 1] to logits (N,): positive means "real".

    Its BatchNorm layers keep no running statistics: a discriminator only ever sees whole batches, while it is
    trained, so they would be written and never read.

    Args:
        image_size: S.
        ndf: channels of the first layer.
        nc: image channels.
        batch_norm: without BatchNorm, the layers that had it have biases instead.
        classes: with classes, a projection of the last feature maps is added to the logit. 0: none.
    """

    def __init__(self, image_size: int = 32, ndf: int = 64, nc: int = 3, batch_norm: bool = True, classes: int = 0):
        super().__init__()
        self.classes = classes
        widths = [ndf * m for m in stage_multipliers(image_size)]
        layers: list[nn.Module] = [nn.Conv2d(nc, widths[0], 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
        for outer, inner in itertools.pairwise(widths):
            layers += [nn.Conv2d(outer, inner, 4, 2, 1, bias=not batch_norm)]
            layers += [nn.BatchNorm2d(inner, track_running_stats=False)] if batch_norm else []
            layers += [nn.LeakyReLU(0.2, inplace=True)]
        layers += [nn.Conv2d(widths[-1], 1, innermost_size(image_size), 1, 0, bias=False)]
        self.layers = nn.Sequential(*layers)
        self.projection = Projection(classes, widths[-1]) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N,) for images (N, nc, S, S), with classes also labels (N,) int64."""
        labels = labels_needed(self.classes, labels)
        features = self.layers[:-1](images)
        logits = cast(Tensor, self.layers[-1](features)).flatten()
        return with_projection(logits, self.projection, features, labels)


def initialize(network: nn.Module, rng: torch.Generator) -> None:
    """Draws a network's first weights: of layers N(0, 0.02), of BatchNorm N(1, 0.02), biases 0.

    DCGAN paper, section 4, and the published programs.

    Args:
        network: on the CPU, so that every device starts from the same weights.
        rng: the CPU generator to draw from.
    """
    for module in network.modules():
        draw_weights(module, rng)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.02, generator=rng)
            nn.init.zeros_(module.bias)


def draw_weights(layer: nn.Module, rng: torch.Generator) -> None:
    """Draws the first weights N(0, 0.02) of a convolution, linear layer or projection; its biases are 0."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | Projection):
        nn.init.normal_(layer.weight, 0.0, 0.02, generator=rng)
        if isinstance(bias := getattr(layer, "bias", None), Tensor):
            nn.init.zeros_(bias)
