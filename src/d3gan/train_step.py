"""One training step of a GAN with K >= 1 discriminators: the discriminator phase, then the generator phase.

DCGAN is the case K = 1. docs/algorithm.md has the formulae.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from d3gan.models.dcgan import Discriminators, Generator
from d3gan.objectives import fake_error, real_error


@dataclass(frozen=True)
class GAN:
    """What a step works on: the networks, their optimisers, and the rules between them."""

    generator: Generator
    discriminators: Discriminators
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    pairing: Callable[[Tensor], Tensor]
    """Fake errors (K,) -> the fake error that joins each discriminator's real error (K,)."""
    selection: Callable[[Tensor], Tensor]
    """Paired errors (K,) -> index of the discriminator that trains the generator, () int64."""
    autocast: Callable[[], AbstractContextManager[Any]]
    """The precision that the networks are called in."""


@dataclass(frozen=True)
class StepResult:
    """What one step measured; detached, on the device."""

    generator_error: Tensor
    """() error of the fake images as seen by the selected discriminator after its update."""
    real_errors: Tensor
    """(K,) error of each discriminator on the real images."""
    fake_errors: Tensor
    """(K,) error of each discriminator on the fake images."""
    errors: Tensor
    """(K,) real error plus paired fake error."""
    selected: Tensor
    """() int64: the discriminator that trained the generator."""


def train_step(gan: GAN, real_images: Tensor, latents: Tensor) -> StepResult:
    """Updates every discriminator, then the generator.

    The host reads nothing back: on an accelerator the step is only queued.

    Args:
        gan: updated in place.
        real_images: (N, C, H, W) in [-1, 1].
        latents: (N, nz).
    """
    with gan.autocast():
        fake_images = gan.generator(latents)
    real_errors, fake_errors = discriminator_phase(gan, real_images, fake_images.detach())
    errors = real_errors + gan.pairing(fake_errors)
    selected = gan.selection(errors)
    generator_error = generator_phase(gan, fake_images, selected)
    return StepResult(generator_error, real_errors, fake_errors, errors, selected)


def discriminator_phase(gan: GAN, real_images: Tensor, fake_images: Tensor) -> tuple[Tensor, Tensor]:
    """Updates every discriminator to tell real images from fake ones.

    What is differentiated is the sum of the paired errors. Pairing only permutes its terms, so it changes neither the
    sum nor any gradient: it acts through the selection alone.

    Args:
        gan: its discriminators and their optimiser are updated in place.
        real_images: (N, C, H, W) in [-1, 1].
        fake_images: (N, C, H, W) in [-1, 1], detached from the generator.

    Returns:
        Real and fake errors before the update, (K,) each, detached.
    """
    with gan.autocast():
        real_logits, fake_logits = gan.discriminators(real_images, fake_images)
    real_errors, fake_errors = real_error(real_logits), fake_error(fake_logits)
    gan.discriminator_optimizer.zero_grad()
    (real_errors + gan.pairing(fake_errors)).sum().backward()
    gan.discriminator_optimizer.step()
    return real_errors.detach(), fake_errors.detach()


def generator_phase(gan: GAN, fake_images: Tensor, selected: Tensor) -> Tensor:
    """Updates the generator to make the selected, already updated discriminator take its images for real.

    Args:
        gan: its generator and that optimiser are updated in place; no discriminator parameter takes a gradient.
        fake_images: (N, C, H, W), the same batch as in the discriminator phase, still attached to the generator.
        selected: () int64.

    Returns:
        The generator's error before its update, (), detached.
    """
    with gan.autocast():
        logits = gan.discriminators.judge(fake_images, selected)
    error = real_error(logits)
    gan.generator_optimizer.zero_grad()
    error.backward()
    gan.generator_optimizer.step()
    return error.detach()
