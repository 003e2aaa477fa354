"""What every generator of this package has, whatever its layers."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "mish": lambda: nn.Mish(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.2, inplace=True),
}


class GeneratorNetwork(nn.Module):
    """Maps latents (N, nz) float to samples (N, *sample_shape) float: images in [-1, 1], or points.

    Of a network without tanh the images lie near [-1, 1], and whoever makes pixels of them clips them.
    """

    nz: int
    """Numbers in a latent vector."""
    sample_shape: tuple[int, ...]
    """(nc, S, S) of an image, (2,) of a point in the plane."""
    classes: int = 0
    """Classes whose images it makes on request; 0: it takes no labels."""
    class_names: tuple[str, ...] = ()
    """Their names in the order of the labels, of a generator that was loaded from a file."""
    architecture: dict[str, Any]
    """What ``d3gan.models.networks.make_generator`` makes this network of, as JSON holds it."""

    @property
    def makes_points(self) -> bool:
        """Whether a sample is a point, not an image."""
        return len(self.sample_shape) == 1

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Samples for latents (N, nz), with classes also labels (N,) int64."""
        raise NotImplementedError
