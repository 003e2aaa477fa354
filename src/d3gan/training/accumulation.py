"""The training step in several parts, whose gradients add up: large steps on little memory."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.func import functional_call

from d3gan.distributed.data_parallel import without_sync
from d3gan.training.md_gan import md_gan_step
from d3gan.training.step import (
    GAN,
    StepContext,
    StepResult,
    average_over_ranks,
    discriminator_batches,
    discriminator_losses,
    evidence,
    generate,
    generate_without_graph,
    generator_phase,
    learn,
    own_buffers,
    set_running_statistics,
    step_result,
    train_step,
    weigh,
)


def step_in_parts(grad_accum_steps: int, sharded: bool = False) -> Callable[..., StepResult]:
    """The training step for a number A of batches per update: ``train_step`` itself for one.

    A batches of one process update the networks as one batch in each of A processes would: each has BatchNorm
    statistics of its own, and the losses and gradients are means over the batches.

    Args:
        grad_accum_steps: A.
        sharded: whether the networks are an MD-GAN's, whose step is another one.
    """
    if sharded:
        return md_gan_step
    if grad_accum_steps == 1:
        return train_step

    def step(gan: GAN, real_images: Tensor, latents: Tensor, context: StepContext | None = None) -> StepResult:
        return _accumulated_step(gan, real_images, latents, context or StepContext(), grad_accum_steps)

    return step


def _accumulated_step(
    gan: GAN, real_images: Tensor, latents: Tensor, context: StepContext, grad_accum_steps: int
) -> StepResult:
    """``train_step`` on A parts: real images (A d_steps N, C, H, W) and latents (A d_steps N, nz)."""
    A = grad_accum_steps
    parts = [
        list(discriminator_batches(gan, *part))
        for part in zip(real_images.chunk(A), latents.chunk(A), context.split(A), strict=True)
    ]

    # Each part has running statistics of its own, as each process has.
    buffers = [own_buffers(gan.generator) for _ in parts]
    for d_step in range(gan.d_steps):
        gan.discriminator_optimizer.zero_grad()
        vectors = [buffer.clone() for buffer in gan.discriminators.buffers()]
        measured_parts = []
        for number, part in enumerate(parts):
            # Spectral norm iterates from the same vectors in each part, as in each process.
            for buffer, before in zip(gan.discriminators.buffers(), vectors, strict=True):
                buffer.copy_(before)
            reals, batch, own_context, _ = part[d_step]
            fakes = generate_without_graph(gan, batch, own_context.fake_labels, buffers[number])
            with _synchronized(gan.ddp_discriminators, number == A - 1):
                objective, measured = discriminator_losses(gan, reals, fakes, own_context)
                (objective / A).backward()
            measured_parts.append(measured)
        gan.discriminator_optimizer.step()
    measured = {name: _mean([part[name] for part in measured_parts]) for name in measured_parts[0]}
    floating = [[buffer for buffer in each.values() if buffer.is_floating_point()] for each in buffers]
    statistics = [_mean(list(each)) for each in zip(*floating, strict=True)]
    measured, mean_statistics = average_over_ranks(gan, measured, statistics)

    gan.generator_optimizer.zero_grad()
    selected = gan.weighting.select(measured["losses"], context.uniforms)
    batches = [part[-1][:3] for part in parts]
    weights, derivatives = weigh(gan, selected, _evidence_of_parts(gan, batches, selected), context)
    losses_of_parts, logits_of_parts = [], []
    for number, (reals, batch, own_context) in enumerate(batches):
        with _synchronized(gan.ddp_generator, number == A - 1):
            # The images are made again: with all their graphs they would not fit into memory together.
            fake_images = generate(gan, batch, own_context.fake_labels)
            generator_losses, fake_logits = generator_phase(gan, fake_images, reals, selected, own_context)
            ((derivatives * generator_losses).sum() / A).backward()
        losses_of_parts.append(generator_losses.detach())
        logits_of_parts.append(fake_logits)
    gan.generator_optimizer.step()
    set_running_statistics(gan.generator, mean_statistics)
    learn(gan, [batch[1:] for batch in batches], logits_of_parts)
    return step_result(measured, weights, _mean(losses_of_parts))


def _evidence_of_parts(
    gan: GAN, batches: list[tuple[Tensor, Tensor, StepContext]], selected: Tensor | None
) -> Tensor:
    """What the rule reads, mean over the parts; a rule that reads it takes one more pass over them."""
    if gan.weighting.reads == "nothing":
        shape = () if selected is not None else (gan.weighting.K,)
        return torch.zeros(shape, device=batches[0][0].device, dtype=batches[0][0].dtype)
    found = []
    for reals, latents, context in batches:
        buffers = own_buffers(gan.generator)
        with torch.set_grad_enabled(gan.weighting.reads == "gradients"):
            with gan.autocast():
                fake_images = functional_call(gan.generator, buffers, (latents, context.fake_labels))
            generator_losses, _ = generator_phase(gan, fake_images, reals, selected, context)
            found.append(evidence(gan, generator_losses, fake_images, reals, context))
    return _mean(found)


def _mean(tensors: list[Tensor]) -> Tensor:
    return torch.stack(tensors).mean(dim=0)


def _synchronized(network: torch.nn.Module, last: bool) -> AbstractContextManager[None]:
    """A block in which gradients add up in this process; of the last batch they are averaged over all processes."""
    return nullcontext() if last else without_sync(network)
