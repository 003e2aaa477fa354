"""The training step in several parts, whose gradients add up: large steps on little memory."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor
from torch.func import functional_call

from d3gan.distributed.data_parallel import without_sync
from d3gan.training.step import (
    GAN,
    StepResult,
    discriminator_losses,
    generator_loss,
    paired_sum,
    set_running_statistics,
    train_step,
)


def step_in_parts(grad_accum_steps: int) -> Callable[[GAN, Tensor, Tensor], StepResult]:
    """The training step for a number A of batches per step: ``train_step`` itself for one.

    A batches of one process update the networks as one batch in each of A processes would: each has BatchNorm
    statistics of its own, and the losses and gradients are means over the batches.
    """
    if grad_accum_steps == 1:
        return train_step
    return lambda gan, real_images, latents: _accumulated_step(gan, real_images, latents, grad_accum_steps)


def _accumulated_step(gan: GAN, real_images: Tensor, latents: Tensor, grad_accum_steps: int) -> StepResult:
    """``train_step`` on A batches: real images (A N, C, H, W) and latents (A N, nz)."""
    real_batches, latent_batches = real_images.chunk(grad_accum_steps), latents.chunk(grad_accum_steps)
    fake_batches, statistics = _fakes_without_graph(gan, latent_batches)

    gan.discriminator_optimizer.zero_grad()
    losses_of_batches = []
    for number, (reals, fakes) in enumerate(zip(real_batches, fake_batches, strict=True), start=1):
        with _synchronized(gan.ddp_discriminators, number == grad_accum_steps):
            real_losses, fake_losses = discriminator_losses(gan, reals, fakes)
            (paired_sum(gan, real_losses, fake_losses) / grad_accum_steps).backward()
        losses_of_batches.append((real_losses.detach(), fake_losses.detach()))
    gan.discriminator_optimizer.step()

    real_losses, fake_losses = (torch.stack(list(each)).mean(dim=0) for each in zip(*losses_of_batches, strict=True))
    real_losses, fake_losses, *mean_statistics = gan.group.mean([real_losses, fake_losses, *statistics])
    losses = real_losses + gan.pairing(fake_losses)
    selected = gan.selection(losses)

    gan.generator_optimizer.zero_grad()
    generator_losses = []
    for number, batch in enumerate(latent_batches, start=1):
        with _synchronized(gan.ddp_generator, number == grad_accum_steps):
            with gan.autocast():
                fake_images = cast(
                    Tensor, gan.ddp_generator(batch)
                )  # made again: their graphs would not fit together
            loss = generator_loss(gan, fake_images, selected)
            (loss / grad_accum_steps).backward()
        generator_losses.append(loss.detach())
    gan.generator_optimizer.step()
    set_running_statistics(gan.generator, mean_statistics)
    return StepResult(torch.stack(generator_losses).mean(dim=0), real_losses, fake_losses, losses, selected)


def _synchronized(network: torch.nn.Module, last: bool) -> AbstractContextManager[None]:
    """A block in which gradients add up in this process; of the last batch they are averaged over all processes."""
    return nullcontext() if last else without_sync(network)


def _fakes_without_graph(gan: GAN, latent_batches: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """Fake images of each batch, and the mean of the running statistics that the batches lead to.

    Leaves the generator as it is.
    """
    fake_batches, statistics = [], []
    for latents in latent_batches:
        buffers = {name: buffer.clone() for name, buffer in gan.generator.named_buffers()}
        with torch.no_grad(), gan.autocast():
            fake_batches.append(cast(Tensor, functional_call(gan.generator, buffers, (latents,))))
        statistics.append([buffer for buffer in buffers.values() if buffer.is_floating_point()])
    return fake_batches, [torch.stack(each).mean(dim=0) for each in zip(*statistics, strict=True)]
