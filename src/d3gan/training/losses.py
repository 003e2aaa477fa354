"""Adversarial losses and pairings: pure functions on tensors.

A new loss is a ``Loss`` here and a line in ``LOSSES``, with its name in ``d3gan.config.recipes``. All are computed in
at least float32. D(x) and D(x̂) are logits of real and fake images, s(a) = log(1 + e^a) is the softplus.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Loss:
    """What discriminators and generator minimize."""

    discriminator: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    """Real and fake logits, (K, N) each -> real and fake losses, (K,) each; a discriminator minimizes their sum."""
    generator: Callable[[Tensor, Tensor | None], Tensor]
    """Fake logits (..., N), and the real logits (..., N) that a relativistic loss needs -> losses (...,)."""
    relativistic: bool = False
    """Whether the generator's loss needs real logits."""


def real_loss(logits: Tensor) -> Tensor:
    """Binary cross-entropy of logits against the label "real", averaged over the last dimension.

    BCE(sigmoid(l), 1) = softplus(-l): computed from the logit, it neither overflows nor loses the gradient where
    the sigmoid saturates (Goodfellow et al., arXiv:1406.2661, equation 1, first term; with fake images it is the
    non-saturating generator loss of section 3).

    Args:
        logits: (..., N) of any floating dtype; computed in at least float32.

    Returns:
        (...,) >= 0.
    """
    return functional.softplus(-_at_least_float32(logits)).mean(dim=-1)


def fake_loss(logits: Tensor) -> Tensor:
    """Binary cross-entropy of logits against the label "fake", averaged over the last dimension.

    BCE(sigmoid(l), 0) = softplus(l) (arXiv:1406.2661, equation 1, second term).

    Args:
        logits: (..., N) of any floating dtype; computed in at least float32.

    Returns:
        (...,) >= 0.
    """
    return functional.softplus(_at_least_float32(logits)).mean(dim=-1)


BCE = Loss(
    discriminator=lambda real, fake: (real_loss(real), fake_loss(fake)),
    generator=lambda fake, _: real_loss(fake),
)
"""Non-saturating binary cross-entropy: D: mean s(-D(x)) + mean s(D(x̂)); G: mean s(-D(x̂)) (arXiv:1406.2661)."""

HINGE = Loss(
    discriminator=lambda real, fake: (
        (1 - _at_least_float32(real)).relu().mean(dim=-1),
        (1 + _at_least_float32(fake)).relu().mean(dim=-1),
    ),
    generator=lambda fake, _: -_at_least_float32(fake).mean(dim=-1),
)
"""D: mean relu(1 - D(x)) + mean relu(1 + D(x̂)); G: -mean D(x̂) (Lim and Ye, arXiv:1705.02894; SNGAN)."""

LEAST_SQUARES = Loss(
    discriminator=lambda real, fake: (
        (_at_least_float32(real) - 1).square().mean(dim=-1) / 2,
        _at_least_float32(fake).square().mean(dim=-1) / 2,
    ),
    generator=lambda fake, _: (_at_least_float32(fake) - 1).square().mean(dim=-1) / 2,
)
"""D: ½ mean (D(x) - 1)² + ½ mean D(x̂)²; G: ½ mean (D(x̂) - 1)² (Mao et al., arXiv:1611.04076, equation 9)."""

WASSERSTEIN = Loss(
    discriminator=lambda real, fake: (
        -_at_least_float32(real).mean(dim=-1),
        _at_least_float32(fake).mean(dim=-1),
    ),
    generator=lambda fake, _: -_at_least_float32(fake).mean(dim=-1),
)
"""D: mean D(x̂) - mean D(x); G: -mean D(x̂), for D with a bounded slope (Arjovsky et al., arXiv:1701.07875)."""


def _pairs(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    losses = real_loss(real - fake)
    return losses, torch.zeros_like(losses)


RELATIVISTIC = Loss(
    discriminator=lambda real, fake: _pairs(_at_least_float32(real), _at_least_float32(fake)),
    generator=lambda fake, real: real_loss(_at_least_float32(fake) - _at_least_float32(_given(real))),
    relativistic=True,
)
"""Relativistic pairing: D: mean s(-(D(x_i) - D(x̂_i))); G: the same with the roles exchanged.

Jolicoeur-Martineau, arXiv:1807.00734; RpGAN in R3GAN (arXiv:2501.05441). The loss compares pairs and has no part of
the fake images alone: all of it is the real loss, and the fake loss is 0.
"""


def d2gan(alpha: float, beta: float) -> Loss:
    """The losses of D2GAN's two discriminators, whose outputs are positive: D_k = s(logit).

    D_0 minimizes mean[-α log D_0(x)] + mean[D_0(x̂)], D_1 minimizes mean[D_1(x)] + mean[-β log D_1(x̂)]; the
    generator minimizes the sum of -mean D_0(x̂) and β mean log D_1(x̂) (Nguyen et al., arXiv:1709.03831, equation 1).

    Args:
        alpha: weight of D_0's term on real images, 0 < α <= 1.
        beta: weight of D_1's term on fake images, 0 < β <= 1.
    """

    def discriminator(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        (real_0, real_1), (fake_0, fake_1) = _at_least_float32(real), _at_least_float32(fake)
        real_losses = -alpha * _log_softplus(real_0).mean(), functional.softplus(real_1).mean()
        fake_losses = functional.softplus(fake_0).mean(), -beta * _log_softplus(fake_1).mean()
        return torch.stack(real_losses), torch.stack(fake_losses)

    def generator(fake: Tensor, _: Tensor | None) -> Tensor:
        fake_0, fake_1 = _at_least_float32(fake)
        return torch.stack([-functional.softplus(fake_0).mean(), beta * _log_softplus(fake_1).mean()])

    return Loss(discriminator, generator)


def _log_softplus(logits: Tensor) -> Tensor:
    """log(log(1 + e^a)); below -36, where it is a to the last bit of float64, without taking a logarithm of 0."""
    return torch.where(logits < -36, logits, functional.softplus(logits.clamp(min=-36)).log())


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.element_size() >= 4 else logits.float()


def _given(real: Tensor | None) -> Tensor:
    assert real is not None, "a relativistic loss needs real logits"
    return real


LOSSES: dict[str, Loss] = {
    "bce": BCE,
    "hinge": HINGE,
    "least-squares": LEAST_SQUARES,
    "wasserstein": WASSERSTEIN,
    "relativistic": RELATIVISTIC,
}


def make_loss(name: str, d2gan_alpha: float, d2gan_beta: float) -> Loss:
    """The loss of a name; the numbers are those of ``d2gan``."""
    return d2gan(d2gan_alpha, d2gan_beta) if name == "d2gan" else LOSSES[name]


def own(fake_losses: Tensor) -> Tensor:
    """Each discriminator keeps its own fake loss. (K,) -> (K,)."""
    return fake_losses


def swapped(fake_losses: Tensor) -> Tensor:
    """Discriminator k is given the fake loss of k + 1 modulo K; D3GAN's swap at K = 2. (K,) -> (K,)."""
    return fake_losses.roll(-1, dims=0)


PAIRINGS: dict[str, Callable[[Tensor], Tensor]] = {"own": own, "swapped": swapped}
