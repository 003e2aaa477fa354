"""The residual networks of SNGAN and of cGANs with projection discriminator.

Miyato, Kataoka, Koyama, Yoshida (arXiv:1802.05957, appendix B) and Miyato, Koyama (arXiv:1802.05637). The layers for
48, 64 and 128 pixels are those of kwotsin/mimicry. At 32 x 32 with widths 256 and 128, three channels and latents of
128 numbers they have 4,276,739 and 1,053,825 parameters.

A shortcut's 1 x 1 convolution comes before its upsampling and after its pooling, on the smaller map: it commutes with
both.
"""

import itertools
import math
from typing import cast

import torch
from torch import Tensor, nn

from d3gan.models.base import ACTIVATIONS, GeneratorNetwork
from d3gan.models.conditional import Projection, batch_norm, call_layers, labels_needed, with_projection
from d3gan.models.widths import RESNETS, halved

# Of BatchNorm, as in the published program.
EPSILON = 2e-5


class GeneratorBlock(nn.Module):
    """A residual block that doubles the side of a map: (N, inputs, S, S) -> (N, outputs, 2S, 2S)."""

    def __init__(self, inputs: int, outputs: int, activation: str, classes: int):
        super().__init__()
        self.layers = nn.Sequential(
            batch_norm(inputs, classes, EPSILON),
            ACTIVATIONS[activation](),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(inputs, outputs, 3, 1, 1),
            batch_norm(outputs, classes, EPSILON),
            ACTIVATIONS[activation](),
            nn.Conv2d(outputs, outputs, 3, 1, 1),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.Upsample(scale_factor=2))

    def forward(self, maps: Tensor, labels: Tensor | None) -> Tensor:
        """The larger map; labels (N,) int64 where there are classes."""
        return call_layers(self.layers, maps, labels) + cast(Tensor, self.shortcut(maps))


class Generator(GeneratorNetwork):
    """Maps latents (N, nz) float to images (N, nc, S, S) float in [-1, 1].

    A linear layer to the innermost map, residual blocks that double its side, BatchNorm and a convolution 3 x 3.

    Args:
        image_size: S: 32, 48, 64 or 128.
        nz: numbers in a latent vector.
        ngf: channels of the last feature maps; published: 256 at 32 pixels, else 64.
        nc: image channels.
        activation: after each BatchNorm.
        classes: with classes, every BatchNorm but the last is conditional. 0: none.
    """

    def __init__(
        self,
        image_size: int = 32,
        nz: int = 128,
        ngf: int = 256,
        nc: int = 3,
        activation: str = "relu",
        classes: int = 0,
    ):
        super().__init__()
        self.nz, self.sample_shape, self.classes = nz, (nc, image_size, image_size), classes
        self.architecture = dict(
            network="resnet", image_size=image_size, nz=nz, ngf=ngf, nc=nc, activation=activation
        )
        self.architecture |= {"classes": classes} if classes else {}
        widths = [ngf * m for m in reversed(RESNETS[image_size].generator)]
        side = halved(image_size, len(widths) - 1)
        self.first = nn.Sequential(nn.Linear(nz, widths[0] * side**2), nn.Unflatten(1, (widths[0], side, side)))
        self.blocks = nn.ModuleList(GeneratorBlock(a, b, activation, classes) for a, b in itertools.pairwise(widths))
        self.last = nn.Sequential(
            nn.BatchNorm2d(ngf, EPSILON), ACTIVATIONS[activation](), nn.Conv2d(ngf, nc, 3, 1, 1), nn.Tanh()
        )

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images for latents (N, nz), with classes also labels (N,) int64."""
        labels = labels_needed(self.classes, labels)
        maps = self.first(latents)
        for block in self.blocks:
            maps = block(maps, labels)
        return cast(Tensor, self.last(maps))


class DiscriminatorBlock(nn.Module):
    """A residual block: (N, inputs, S, S) -> (N, outputs, S, S), or half the side.

    Args:
        inputs: channels.
        outputs: channels.
        down: whether the side is halved.
        first: whether the maps are images, which no activation comes before.
    """

    def __init__(self, inputs: int, outputs: int, *, down: bool, first: bool = False):
        super().__init__()
        hidden = outputs if first else inputs
        layers: list[nn.Module] = [] if first else [nn.ReLU()]  # not in place: the shortcut reads the same map
        layers += [nn.Conv2d(inputs, hidden, 3, 1, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, outputs, 3, 1, 1)]
        shortcut: list[nn.Module] = [nn.Conv2d(inputs, outputs, 1)] if down or inputs != outputs else []
        if down:
            layers, shortcut = [*layers, nn.AvgPool2d(2)], [nn.AvgPool2d(2), *shortcut]
        self.layers, self.shortcut = nn.Sequential(*layers), nn.Sequential(*shortcut)

    def forward(self, maps: Tensor) -> Tensor:
        """The maps of the residual path and of the shortcut, added."""
        return cast(Tensor, self.layers(maps) + self.shortcut(maps))


class Discriminator(nn.Module):
    """Maps images (N, nc, S, S) float in [-1, 1] to logits (N,): positive means "real".

    Residual blocks, a sum over the positions of the last map, a linear layer. It has no BatchNorm.

    Args:
        image_size: S: 32, 48, 64 or 128.
        ndf: channels of the first block; published: 128 at 32 pixels, else 64.
        nc: image channels.
        classes: with classes, a projection of the summed features is added to the logit. 0: none.
    """

    def __init__(self, image_size: int = 32, ndf: int = 128, nc: int = 3, classes: int = 0):
        super().__init__()
        self.classes = classes
        multipliers, halvings = RESNETS[image_size].discriminator, RESNETS[image_size].halvings
        widths = [nc, *(ndf * m for m in multipliers)]
        self.blocks = nn.Sequential(
            *(
                DiscriminatorBlock(outer, inner, down=i < halvings, first=i == 0)
                for i, (outer, inner) in enumerate(itertools.pairwise(widths))
            )
        )
        self.activation = nn.ReLU(inplace=True)
        self.last = nn.Linear(widths[-1], 1)
        self.projection = Projection(classes, widths[-1]) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N,) for images (N, nc, S, S), with classes also labels (N,) int64."""
        labels = labels_needed(self.classes, labels)
        features = self.activation(self.blocks(images)).sum(dim=(2, 3))
        logits = cast(Tensor, self.last(features)).flatten()
        return with_projection(logits, self.projection, features, labels)


def initialize(network: nn.Module, rng: torch.Generator) -> None:
    """Draws a network's first weights: uniform after Glorot and Bengio, with gain √2 in a block's residual path.

    All other gains are 1, biases 0, BatchNorm's gains 1; as in the published program.

    Args:
        network: on the CPU, so that every device starts from the same weights.
        rng: the CPU generator to draw from.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | Projection):
            gain = math.sqrt(2) if name.startswith("blocks.") and ".layers." in name else 1.0
            nn.init.xavier_uniform_(module.weight, gain, generator=rng)
            if isinstance(bias := getattr(module, "bias", None), Tensor):
                nn.init.zeros_(bias)
