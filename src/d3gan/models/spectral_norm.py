"""Spectral normalisation: a discriminator whose layers' weights have the largest singular value 1.

Miyato et al., arXiv:1802.05957, section 2.1 and algorithm 1. PyTorch's own parametrization draws from the global
random state, computes in bf16 under autocast, and iterates in every forward in training; this one does none of these.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.parametrize import register_parametrization

from d3gan.models.conditional import Projection

# Power iterations at the start, so that the first steps train with the right norm (PyTorch's own has as many).
FIRST_ITERATIONS = 15


class SpectralNorm(nn.Module):
    """W -> W / σ, where σ = u^T W v estimates the largest singular value of W as a matrix (outputs, the rest).

    One power iteration per forward in which W takes a gradient, so two in a discriminator's step, with its real and
    its fake images; none in the generator's step. u and v are buffers, and constants for the gradient.

    Args:
        weight: W, (outputs, ...).
        rng: the CPU generator to draw the first u from.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, rng: torch.Generator):
        super().__init__()
        matrix = weight.detach().flatten(1)
        self.register_buffer("u", normalize(torch.randn(len(matrix), generator=rng), dim=0))
        self.register_buffer("v", torch.zeros(matrix.shape[1]))
        for _ in range(FIRST_ITERATIONS):
            self._iterate(matrix)

    def _iterate(self, matrix: Tensor) -> None:
        self.v.copy_(normalize(matrix.T @ self.u, dim=0))
        self.u.copy_(normalize(matrix @ self.v, dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        """W / σ, of W's shape and type."""
        with torch.autocast(weight.device.type, enabled=False):
            matrix = weight.flatten(1)
            if weight.requires_grad and torch.is_grad_enabled():
                with torch.no_grad():
                    self._iterate(matrix)
            # Copies: the next forward iterates in place before this one's backward pass.
            sigma = torch.dot(self.u.clone(), matrix @ self.v.clone())
            return weight / sigma


def add_spectral_norm(network: nn.Module, rng: torch.Generator) -> None:
    """Normalises every convolution, linear layer and class projection of a network, in place.

    The weights stay parameters.

    Args:
        network: on the CPU, with its first weights.
        rng: the CPU generator that the first vectors are drawn from.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear | Projection):
            register_parametrization(module, "weight", SpectralNorm(module.weight, rng))
