"""One training step of a GAN with K >= 1 discriminators: the discriminator phase, then the generator phase.

DCGAN is the case K = 1. docs/algorithm.md has the formulae.
"""

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from d3gan.distributed.data_parallel import without_sync
from d3gan.distributed.group import Group
from d3gan.models.dcgan import Discriminators, Generator
from d3gan.training.objectives import fake_loss, real_loss


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
    generate: nn.Module
    """The generator as a step calls it: one of several processes averages its gradients with the others'."""
    discriminate: nn.Module
    """The discriminators, likewise."""
    group: Group = field(default_factory=Group)
    """The processes that train together."""


@dataclass(frozen=True)
class StepResult:
    """What one step measured; detached, on the device. Means over all processes, the first one excepted."""

    generator_loss: Tensor
    """() error of this process's fake images as seen by the selected discriminator after its update."""
    real_losses: Tensor
    """(K,) error of each discriminator on the real images."""
    fake_losses: Tensor
    """(K,) error of each discriminator on the fake images."""
    errors: Tensor
    """(K,) real error plus paired fake error."""
    selected: Tensor
    """() int64: the discriminator that trained the generator."""


def train_step(gan: GAN, real_images: Tensor, latents: Tensor, grad_accum_steps: int = 1) -> StepResult:
    """Updates every discriminator, then the generator.

    The host reads nothing back: on an accelerator the step is only queued. Of several processes each calls it with
    images and latents of its own; they update alike, since gradients, the errors that select, and the generator's
    BatchNorm statistics are means over all of them. Beside the gradients that takes one small all-reduce.

    Args:
        gan: updated in place.
        real_images: (A N, C, H, W) in [-1, 1].
        latents: (A N, nz).
        grad_accum_steps: A, the number of batches that go through the networks one after the other and update them
            together, each with BatchNorm statistics of its own: A processes with one batch each do the same.
    """
    reals, seeds = real_images.chunk(grad_accum_steps), latents.chunk(grad_accum_steps)
    fakes, statistics = draft(gan, seeds)
    real_losses, fake_losses = discriminator_phase(gan, reals, [images.detach() for images in fakes])
    real_losses, fake_losses, *statistics = gan.group.mean([real_losses, fake_losses, *statistics])
    errors = real_losses + gan.pairing(fake_losses)
    selected = gan.selection(errors)
    # One batch's fake images serve both phases. Several would not fit in memory with their graphs: made once more.
    makers = [functools.partial(generate, gan, z) for z in seeds] if grad_accum_steps > 1 else [lambda: fakes[0]]
    generator_loss = generator_phase(gan, makers, selected)
    for statistic, mean in zip(running_statistics(gan.generator), statistics, strict=True):
        statistic.copy_(mean)  # not earlier: the generator's backward pass holds on to them
    return StepResult(generator_loss, real_losses, fake_losses, errors, selected)


def generate(gan: GAN, latents: Tensor) -> Tensor:
    """Fake images (N, C, H, W) in [-1, 1], attached to the generator, for latents (N, nz)."""
    with gan.autocast():
        return cast(Tensor, gan.generate(latents))


def running_statistics(generator: nn.Module) -> list[Tensor]:
    """The generator's BatchNorm means and variances over the batches seen so far: what it samples with."""
    return [buffer for buffer in generator.buffers() if buffer.is_floating_point()]


def draft(gan: GAN, seeds: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The step's fake images, batch by batch, and the mean of the running statistics that the batches lead to.

    A single batch is made with its graph. Several are made without, and leave the generator as it is.
    """
    if len(seeds) == 1:
        return [generate(gan, seeds[0])], running_statistics(gan.generator)
    fakes, kept = [], []
    for latents in seeds:
        buffers = {name: buffer.clone() for name, buffer in gan.generator.named_buffers()}
        with torch.no_grad(), gan.autocast():
            fakes.append(cast(Tensor, functional_call(gan.generator, buffers, (latents,))))
        kept.append([buffer for buffer in buffers.values() if buffer.is_floating_point()])
    return fakes, [torch.stack(each).mean(dim=0) for each in zip(*kept, strict=True)]


def discriminator_phase(gan: GAN, reals: Sequence[Tensor], fakes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Updates every discriminator to tell real images from fake ones.

    What is differentiated is the sum of the paired errors. Pairing only permutes its terms, so it changes neither the
    sum nor any gradient: it acts through the selection alone.

    Args:
        gan: its discriminators and their optimiser are updated in place.
        reals: batches (N, C, H, W) in [-1, 1].
        fakes: as many batches (N, C, H, W) in [-1, 1], detached from the generator.

    Returns:
        This process's real and fake errors before the update, means over the batches, (K,) each, detached.
    """
    gan.discriminator_optimizer.zero_grad()
    found = []
    for number, (real_images, fake_images) in enumerate(zip(reals, fakes, strict=True), start=1):
        with nullcontext() if number == len(reals) else without_sync(gan.discriminate):
            with gan.autocast():
                real_logits, fake_logits = gan.discriminate(real_images, fake_images)
            real_losses, fake_losses = real_loss(real_logits), fake_loss(fake_logits)
            _share((real_losses + gan.pairing(fake_losses)).sum(), len(reals)).backward()
        found.append((real_losses.detach(), fake_losses.detach()))
    gan.discriminator_optimizer.step()
    real_losses, fake_losses = (_mean(errors) for errors in zip(*found, strict=True))
    return real_losses, fake_losses


def generator_phase(gan: GAN, makers: Sequence[Callable[[], Tensor]], selected: Tensor) -> Tensor:
    """Updates the generator to make the selected, already updated discriminator take its images for real.

    Args:
        gan: its generator and that optimiser are updated in place; no discriminator parameter takes a gradient.
        makers: each gives a batch (N, C, H, W) of the discriminator phase, attached to the generator.
        selected: () int64.

    Returns:
        This process's generator error before the update, mean over the batches, (), detached.
    """
    gan.generator_optimizer.zero_grad()
    found = []
    for number, make in enumerate(makers, start=1):
        with nullcontext() if number == len(makers) else without_sync(gan.generate):
            fake_images = make()
            with gan.autocast():
                logits = gan.discriminators.selected_logits(fake_images, selected)
            error = real_loss(logits)
            _share(error, len(makers)).backward()
        found.append(error.detach())
    gan.generator_optimizer.step()
    return _mean(found)


def _share(error: Tensor, count: int) -> Tensor:
    return error if count == 1 else error / count


def _mean(errors: Sequence[Tensor]) -> Tensor:
    return errors[0] if len(errors) == 1 else torch.stack(list(errors)).mean(dim=0)
