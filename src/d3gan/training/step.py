"""One training step of a GAN with K >= 1 discriminators: the discriminators' update, then the generator's.

DCGAN is the case K = 1. docs/algorithm.md has the formulae. ``accumulation.py`` takes the same step in several parts.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from d3gan.distributed.group import Group
from d3gan.models.dcgan import Discriminators, Generator
from d3gan.training.objectives import fake_loss, real_loss


@dataclass(frozen=True)
class GAN:
    """What a step works on: the networks, their optimizers, and the rules between them."""

    generator: Generator
    discriminators: Discriminators
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    pairing: Callable[[Tensor], Tensor]
    """Fake losses (K,) -> the fake loss that joins each discriminator's real loss (K,)."""
    selection: Callable[[Tensor], Tensor]
    """Paired losses (K,) -> index of the discriminator that trains the generator, () int64."""
    autocast: Callable[[], AbstractContextManager[Any]]
    """The precision in which the networks are called."""
    ddp_generator: nn.Module
    """The generator in DistributedDataParallel, which averages its gradients; the generator itself in one process."""
    ddp_discriminators: nn.Module
    """The discriminators in DistributedDataParallel, or themselves."""
    group: Group = field(default_factory=Group)
    """The processes that train together."""


@dataclass(frozen=True)
class StepResult:
    """What one step measured, detached, on the device: means over all processes, except for ``generator_loss``."""

    generator_loss: Tensor
    """() loss of this process's fake images for the selected discriminator, after that one's update."""
    real_losses: Tensor
    """(K,) loss of each discriminator on the real images."""
    fake_losses: Tensor
    """(K,) loss of each discriminator on the fake images."""
    losses: Tensor
    """(K,) real loss plus paired fake loss."""
    selected: Tensor
    """() int64: the discriminator that trained the generator."""


def train_step(gan: GAN, real_images: Tensor, latents: Tensor) -> StepResult:
    """Updates every discriminator, then the generator.

    The host reads nothing back: on an accelerator the step is only queued. With several processes, each calls it with
    images and latents of its own. All of them update alike, because gradients, the losses that select, and the
    generator's BatchNorm statistics are means over the processes. Besides the gradients that takes one all-reduce.

    Args:
        gan: updated in place.
        real_images: (N, C, H, W) in [-1, 1].
        latents: (N, nz).
    """
    with gan.autocast():
        fake_images = cast(Tensor, gan.ddp_generator(latents))
    real_losses, fake_losses = update_discriminators(gan, real_images, fake_images.detach())

    statistics = running_statistics(gan.generator)
    real_losses, fake_losses, *mean_statistics = gan.group.mean([real_losses, fake_losses, *statistics])
    losses = real_losses + gan.pairing(fake_losses)
    selected = gan.selection(losses)

    generator_loss = update_generator(gan, fake_images, selected)
    set_running_statistics(gan.generator, mean_statistics)
    return StepResult(generator_loss, real_losses, fake_losses, losses, selected)


def update_discriminators(gan: GAN, real_images: Tensor, fake_images: Tensor) -> tuple[Tensor, Tensor]:
    """Updates every discriminator to tell real images from fake ones.

    Args:
        gan: its discriminators and their optimizer are updated in place.
        real_images: (N, C, H, W) in [-1, 1].
        fake_images: (N, C, H, W) in [-1, 1], detached from the generator.

    Returns:
        This process's real and fake losses before the update, (K,) each, detached.
    """
    gan.discriminator_optimizer.zero_grad()
    real_losses, fake_losses = discriminator_losses(gan, real_images, fake_images)
    paired_sum(gan, real_losses, fake_losses).backward()
    gan.discriminator_optimizer.step()
    return real_losses.detach(), fake_losses.detach()


def update_generator(gan: GAN, fake_images: Tensor, selected: Tensor) -> Tensor:
    """Updates the generator so that the selected, already updated discriminator takes its images for real.

    Args:
        gan: its generator and that optimizer are updated in place; no discriminator parameter takes a gradient.
        fake_images: (N, C, H, W) in [-1, 1], attached to the generator.
        selected: () int64.

    Returns:
        This process's generator loss before the update, (), detached.
    """
    gan.generator_optimizer.zero_grad()
    loss = generator_loss(gan, fake_images, selected)
    loss.backward()
    gan.generator_optimizer.step()
    return loss.detach()


def discriminator_losses(gan: GAN, real_images: Tensor, fake_images: Tensor) -> tuple[Tensor, Tensor]:
    """Each discriminator's loss on the real and on the fake images, (K,) each."""
    with gan.autocast():
        real_logits, fake_logits = gan.ddp_discriminators(real_images, fake_images)
    return real_loss(real_logits), fake_loss(fake_logits)


def paired_sum(gan: GAN, real_losses: Tensor, fake_losses: Tensor) -> Tensor:
    """What the discriminators minimize: the sum of their paired losses, ().

    Pairing only permutes the terms, so it changes neither the sum nor any gradient: only the selection depends on it.
    """
    return (real_losses + gan.pairing(fake_losses)).sum()


def generator_loss(gan: GAN, fake_images: Tensor, selected: Tensor) -> Tensor:
    """The loss of fake images that the selected discriminator is to take for real, ()."""
    with gan.autocast():
        logits = gan.discriminators.selected_logits(fake_images, selected)
    return real_loss(logits)


def running_statistics(generator: nn.Module) -> list[Tensor]:
    """The generator's BatchNorm means and variances over the batches seen so far: what it samples with."""
    return [buffer for buffer in generator.buffers() if buffer.is_floating_point()]


def set_running_statistics(generator: nn.Module, values: list[Tensor]) -> None:
    """Sets them in place; only after the generator's backward pass, which still needs the old ones."""
    for statistic, value in zip(running_statistics(generator), values, strict=True):
        statistic.copy_(value)
