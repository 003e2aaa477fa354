"""What discriminators can see of an image, and what they can drop, so that no two are alike.

Each serves any network; which slice of a batch a discriminator sees is decided in ``Discriminators``.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from d3gan.models.mlp import Maxout
from d3gan.models.widths import projection

_ACTIVATIONS = (nn.LeakyReLU, nn.ReLU, Maxout)


class RandomProjection(nn.Module):
    """A fixed random convolution of images to one channel, which a discriminator sees in place of the images.

    Neyshabur, Bhojanapalli and Chakrabarti (arXiv:1705.07831); sizes and norm are those of hGAN's program. The filter
    is a buffer: checkpoints hold it, and nothing trains it.

    Args:
        image_size: side of the images in pixels.
        nc: image channels.
        rng: the CPU generator that the filter is drawn from, N(0, 1), before it is divided by its norm.
    """

    filter: Tensor

    def __init__(self, image_size: int, nc: int, rng: torch.Generator):
        super().__init__()
        kernel, self._stride, self._padding, *_ = projection(image_size)
        drawn = torch.randn(1, nc, kernel, kernel, generator=rng)
        self.register_buffer("filter", drawn / drawn.norm())

    def forward(self, images: Tensor) -> Tensor:
        """(N, nc, S, S) -> (N, 1, S + 1, S + 1), from 64 pixels on (N, 1, S / 2, S / 2)."""
        return functional.conv2d(images, self.filter, None, self._stride, self._padding)


class PointProjection(nn.Module):
    """A fixed random direction of the plane: a discriminator sees where along it a point lies.

    Args:
        dimensions: numbers of a point.
        rng: the CPU generator that the direction is drawn from, uniform on the sphere.
    """

    direction: Tensor

    def __init__(self, dimensions: int, rng: torch.Generator):
        super().__init__()
        drawn = torch.randn(dimensions, generator=rng)
        self.register_buffer("direction", drawn / drawn.norm())

    def forward(self, points: Tensor) -> Tensor:
        """(N, dimensions) -> (N, 1)."""
        return points @ self.direction[:, None]


class Dropout(nn.Module):
    """Within ``dropping``: sets each number to 0 with probability 1 - keep, divides the others by keep.

    Elsewhere it changes nothing. PyTorch's own draws from the global random state, which nothing else of a run reads
    or changes.

    Args:
        keep: probability in (0, 1].
    """

    def __init__(self, keep: float):
        super().__init__()
        self.keep = keep
        self.rng: torch.Generator | None = None
        """Where the next masks are drawn from; None: drop nothing."""

    def forward(self, activations: Tensor) -> Tensor:
        """The activations, some of them 0."""
        if self.rng is None:
            return activations
        drawn = torch.rand(activations.shape, generator=self.rng, device=activations.device)
        return activations * ((drawn < self.keep).to(activations.dtype) / self.keep)


class Viewing(nn.Sequential):
    """A discriminator behind a projection; labels pass by it."""

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N,) for samples (N, ...), with classes also labels (N,) int64."""
        projection, discriminator = self
        return cast(Tensor, discriminator(projection(samples), labels))


def keep_probability(k: int, discriminators: int) -> float:
    """Of discriminator k of K in GMAN's program: 0.4 + 0.2 (k + 1) / K."""
    return 0.4 + 0.2 * (k + 1) / discriminators


def add_dropout(network: nn.Module, keep: float) -> None:
    """Adds dropout after the first two activations of a network, in place, as GMAN's program has it.

    The names of its parameters stay.
    """
    names = [name for name, module in network.named_modules() if isinstance(module, _ACTIVATIONS)]
    for name in names[:2]:
        network.set_submodule(name, nn.Sequential(network.get_submodule(name), Dropout(keep)))


@contextmanager
def dropping(networks: Sequence[nn.Module], rngs: Sequence[torch.Generator]) -> Iterator[None]:
    """A block in which the dropout of each network draws from a stream of its own.

    Args:
        networks: K of them.
        rngs: one for each, on its device.
    """
    layers = [[m for m in network.modules() if isinstance(m, Dropout)] for network in networks]
    try:
        for of_network, rng in zip(layers, rngs, strict=True):
            for layer in of_network:
                layer.rng = rng
        yield
    finally:
        for layer in (layer for of_network in layers for layer in of_network):
            layer.rng = None
