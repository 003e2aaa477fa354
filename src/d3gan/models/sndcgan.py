"""SNDCGAN: the small convolutional networks of the papers on spectral normalisation.

Miyato, Kataoka, Koyama, Yoshida: Spectral Normalization for Generative Adversarial Networks (arXiv:1802.05957),
appendix B. Widths and first weights as in w86763777/pytorch-gan-collections, whose program reaches an FID of 17.8 on
CIFAR-10; there the transposed convolutions have biases too, which the BatchNorm after each of them takes away again.
"""

import itertools
from typing import cast

import torch
from torch import Tensor, nn

from d3gan.models.base import ACTIVATIONS, GeneratorNetwork
from d3gan.models.conditional import Projection, batch_norm, call_layers, labels_needed, with_projection
from d3gan.models.dcgan import draw_weights
from d3gan.models.widths import halved, sndcgan_multipliers


class Generator(GeneratorNetwork):
    """Maps latents (N, nz) float to images (N, nc, S, S) float in [-1, 1].

    A linear layer to the innermost map, transposed convolutions 4 x 4 that double its side, a convolution 3 x 3. At
    32 x 32 the maps are 4 x 4 with 8 ngf channels, then 4 ngf, 2 ngf and ngf.

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
        nz: int = 128,
        ngf: int = 64,
        nc: int = 3,
        activation: str = "relu",
        classes: int = 0,
    ):
        super().__init__()
        self.nz, self.sample_shape, self.classes = nz, (nc, image_size, image_size), classes
        self.architecture = dict(
            network="sndcgan", image_size=image_size, nz=nz, ngf=ngf, nc=nc, activation=activation
        )
        self.architecture |= {"classes": classes} if classes else {}
        widths = [ngf * m for m in reversed(sndcgan_multipliers(image_size))]
        side = halved(image_size, len(widths) - 1)
        self.first = nn.Linear(nz, widths[0] * side**2)
        layers: list[nn.Module] = [nn.Unflatten(1, (widths[0], side, side))]
        layers += [batch_norm(widths[0], classes), ACTIVATIONS[activation]()]
        for inner, outer in itertools.pairwise(widths):
            layers += [nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=False), batch_norm(outer, classes)]
            layers += [ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], nc, 3, 1, 1), nn.Tanh())

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images for latents (N, nz), with classes also labels (N,) int64."""
        return call_layers(self.layers, self.first(latents), labels_needed(self.classes, labels))


class Discriminator(nn.Module):
    """Maps images (N, nc, S, S) float in [-1, 1] to logits (N,): positive means "real".

    Convolutions 3 x 3 and 4 x 4 by turns, the latter halve the side; a linear layer on the innermost map. At 32 x 32
    there are seven convolutions with ndf, 2, 2, 4, 4, 8 and 8 ndf channels.

    Args:
        image_size: S.
        ndf: channels of the first layer.
        nc: image channels.
        batch_norm: BatchNorm after every convolution but the first; it keeps no running statistics, as in
            ``d3gan.models.dcgan``.
        classes: with classes, a projection of the last feature maps is added to the logit. 0: none.
    """

    def __init__(self, image_size: int = 32, ndf: int = 64, nc: int = 3, batch_norm: bool = False, classes: int = 0):
        super().__init__()
        self.classes = classes
        widths = [ndf * m for m in sndcgan_multipliers(image_size)]
        convolutions = [nn.Conv2d(nc, widths[0], 3, 1, 1)]
        for outer, inner in itertools.pairwise(widths):
            convolutions += [nn.Conv2d(outer, inner, 4, 2, 1, bias=not batch_norm)]
            convolutions += [nn.Conv2d(inner, inner, 3, 1, 1, bias=not batch_norm)]
        layers: list[nn.Module] = []
        for convolution in convolutions:
            layers += [convolution]
            if convolution.bias is None:
                layers += [nn.BatchNorm2d(convolution.out_channels, track_running_stats=False)]
            layers += [nn.LeakyReLU(0.1, inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(widths[-1] * halved(image_size, len(widths) - 1) ** 2, 1)
        self.projection = Projection(classes, widths[-1]) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N,) for images (N, nc, S, S), with classes also labels (N,) int64."""
        labels = labels_needed(self.classes, labels)
        features = self.layers(images)
        logits = cast(Tensor, self.last(features.flatten(1))).flatten()
        return with_projection(logits, self.projection, features, labels)


def initialize(network: nn.Module, rng: torch.Generator) -> None:
    """Draws a network's first weights N(0, 0.02); biases are 0, BatchNorm's gains 1.

    As in w86763777/pytorch-gan-collections.

    Args:
        network: on the CPU, so that every device starts from the same weights.
        rng: the CPU generator to draw from.
    """
    for module in network.modules():
        draw_weights(module, rng)
