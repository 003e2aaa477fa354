"""Networks for points in the plane: fully connected, the discriminator with maxout units.

Layers and first weights as in PacGAN's program for 2-D mixtures (Lin, Khetan, Fanti, Oh, arXiv:1712.04086, after
VEEGAN, arXiv:1705.07761), where the widths are 400 and 200 and the generator's activation is ReLU.
"""

from typing import cast

import torch
from torch import Tensor, nn

from d3gan.models.base import ACTIVATIONS, GeneratorNetwork
from d3gan.models.dcgan import initialize  # noqa: F401 (its first weights are drawn as the dcgan's)
from d3gan.models.widths import DIMENSIONS, PIECES


class Generator(GeneratorNetwork):
    """Maps latents (N, nz) float to points (N, 2) float: four hidden layers of ``width`` units."""

    def __init__(self, nz: int = 2, width: int = 400, activation: str = "relu"):
        super().__init__()
        self.nz, self.sample_shape = nz, (DIMENSIONS,)
        self.architecture = dict(network="mlp", nz=nz, width=width, activation=activation)
        layers: list[nn.Module] = []
        for inputs in (nz, width, width, width):
            layers += [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width)]
            layers += [ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, DIMENSIONS))

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:  # noqa: ARG002 (it has no classes)
        """Points for latents (N, nz)."""
        return cast(Tensor, self.layers(latents))


class Discriminator(nn.Module):
    """Maps points (N, dimensions) float to logits (N,): positive means "real"; three hidden layers of maxout units.

    Args:
        width: maxout units of a hidden layer.
        batch_norm: BatchNorm before each maxout; its layers keep no running statistics, as in ``d3gan.models.dcgan``.
        dimensions: numbers of a point.
    """

    def __init__(self, width: int = 200, batch_norm: bool = False, dimensions: int = DIMENSIONS):
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (dimensions, width, width):
            layers += [nn.Linear(inputs, width * PIECES, bias=not batch_norm)]
            layers += [nn.BatchNorm1d(width * PIECES, track_running_stats=False)] if batch_norm else []
            layers += [Maxout()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, points: Tensor, labels: Tensor | None = None) -> Tensor:  # noqa: ARG002 (it has no classes)
        """Logits (N,) for points (N, dimensions)."""
        return cast(Tensor, self.layers(points)).flatten()


class Maxout(nn.Module):
    """The largest of every ``PIECES`` neighbouring numbers: (N, PIECES width) to (N, width)."""

    def forward(self, pieces: Tensor) -> Tensor:
        """(N, width) for (N, PIECES width)."""
        return torch.amax(pieces.unflatten(1, (-1, PIECES)), dim=2)
