"""MD-GAN: a discriminator for each part of the images; only the generator's gradients are exchanged.

Hardy, Le Merrer, Sericola: MD-GAN: Multi-Discriminator Generative Adversarial Networks for Distributed Datasets
(arXiv:1811.03850). Each of K workers has a discriminator and a shard of the images; each of W processes is K / W
workers. docs/algorithm.md says what differs from the paper.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from d3gan.config.train_config import TrainConfig
from d3gan.distributed.data_parallel import without_sync
from d3gan.distributed.group import Group
from d3gan.errors import ConfigError
from d3gan.models.discriminators import Discriminators
from d3gan.training.step import (
    GAN,
    StepContext,
    StepResult,
    average_over_ranks,
    discriminator_batches,
    generate,
    generate_without_graph,
    generator_phase,
    running_statistics,
    set_running_statistics,
    step_result,
    update_discriminators,
)


def workers_of(config: TrainConfig, group: Group) -> range | None:
    """The numbers of this process's workers among all K; None where every process has all discriminators.

    Raises:
        ConfigError: the processes cannot divide the discriminators evenly, or these the batch.
    """
    if config.recipe.sharded == "off":
        return None
    K, W = config.recipe.discriminators, group.world_size
    own, rest = divmod(K, W)
    if rest:
        raise ConfigError(
            f"sharded = on, discriminators = {K}: must be a multiple of the number of processes, here {W}; set "
            f"discriminators = {(own + 1) * W}, or start another number of processes"
        )
    if config.batch_size % own or config.batch_size < 2 * own:
        raise ConfigError(
            f"sharded = on, batch_size = {config.batch_size}: each process has {own} of the {K} discriminators, "
            f"which divide its batch; must be a multiple of {own}, at least {2 * own}"
        )
    return range(group.rank * own, (group.rank + 1) * own)


def md_gan_step(gan: GAN, real_images: Tensor, latents: Tensor, context: StepContext | None = None) -> StepResult:
    """Updates each discriminator with its own images, then the generator with what all of them tell it.

    A batch of each worker goes through the generator, with BatchNorm statistics of its own, and to that worker's
    discriminator alone. So the number of processes makes no difference. The generator minimizes the weighted sum of
    its losses l_k; each process differentiates its own ones, and DistributedDataParallel exchanges the gradients. All
    else that processes exchange is one all-reduce, of losses and running statistics, and the swaps.

    Args:
        gan: updated in place.
        real_images: (A d_steps N, C, H, W) in [-1, 1] for the A workers of this process.
        latents: (A d_steps N, nz).
        context: of this step; None: step 0 without random numbers.
    """
    context = context or StepContext()
    if context.partners is not None:
        swap_discriminators(gan, context.partners)
    assert gan.workers is not None, "an MD-GAN"
    K, W, A = gan.weighting.K, gan.group.world_size, len(gan.workers)
    weights = torch.ones(K, device=real_images.device, dtype=real_images.dtype)
    if K > 1:
        weights, _ = gan.weighting(weights, None)
    inputs = real_images.chunk(A), latents.chunk(A), context.split(A)

    gan.generator_optimizer.zero_grad()
    before = [each.clone() for each in running_statistics(gan.generator)]
    statistics, measured, generator_losses = [], [], []
    for k, worker, images, z, own_context in zip(gan.workers, gans_of_workers(gan), *inputs, strict=True):
        # Each worker starts from the same running statistics, as it would in a process of its own.
        set_running_statistics(gan.generator, before)
        batches = discriminator_batches(worker, images, z, own_context)
        with nullcontext() if k == gan.workers[-1] else without_sync(gan.ddp_generator):
            for reals, batch, of_batch, is_last in batches:
                fake_images = generate(gan, batch) if is_last else generate_without_graph(gan, batch)
                losses = update_discriminators(worker, reals, fake_images.detach(), of_batch)
            generator_loss, _ = generator_phase(worker, fake_images, reals, None, of_batch)
            (W * weights[k] * generator_loss.sum()).backward()  # gradients become means over the W processes
        statistics.append([each.clone() for each in running_statistics(gan.generator)])
        measured.append(losses)
        generator_losses.append(generator_loss.detach())
    gan.generator_optimizer.step()

    own_means = [torch.stack(each).mean(dim=0) for each in zip(*statistics, strict=True)]
    everyones = {name: among_all(gan, [losses[name] for losses in measured]) for name in measured[0]}
    everyones, mean_statistics = average_over_ranks(gan, everyones, own_means)
    set_running_statistics(gan.generator, mean_statistics)
    return step_result(everyones, weights, among_all(gan, generator_losses))


def gans_of_workers(gan: GAN) -> Iterator[GAN]:
    """A GAN of one discriminator for each worker of this process, with everything else in common."""
    for member in gan.discriminators.members:
        alone = Discriminators([member])
        yield dataclasses.replace(gan, discriminators=alone, ddp_discriminators=alone)


def among_all(gan: GAN, numbers: Sequence[Tensor]) -> Tensor:
    """One number (1,) of each of this process's workers, in its place among those of all K: (K,).

    They are multiplied by the number of processes, and the other places are 0, so that the mean over the processes
    has every worker's number.
    """
    assert gan.workers is not None, "an MD-GAN"
    everyones = numbers[0].new_zeros(gan.weighting.K)
    everyones[gan.workers.start : gan.workers.stop] = torch.cat(list(numbers)) * gan.group.world_size
    return everyones


def swap_partners(K: int, rng: torch.Generator) -> tuple[int, ...]:
    """With which discriminator each of K changes places: random pairs; of an odd number one stays where it is."""
    partners, order = list(range(K)), torch.randperm(K, generator=rng).tolist()
    for a, b in zip(order[::2], order[1::2], strict=False):
        partners[a], partners[b] = b, a
    return tuple(partners)


def swap_discriminators(gan: GAN, partners: Sequence[int]) -> None:
    """Exchanges discriminators in pairs, with their buffers and Adam's moments; all processes must call it.

    The numbers move and the tensors stay, so optimizers and compiled networks go on as before.

    Args:
        gan: its discriminators and their optimizer are changed in place.
        partners: of each of the K discriminators, its own number if it stays.
    """
    assert gan.workers is not None, "an MD-GAN"
    tensors = {k: _state_of(gan, place) for place, k in enumerate(gan.workers)}
    flat = {k: torch.cat([tensor.flatten() for tensor in each]) for k, each in tensors.items()}
    # In the order of the pairs, in which both processes of each name their messages.
    pairs = [(a, b) for a, b in enumerate(partners) if a < b]
    leaving = [(own, other) for a, b in pairs for own, other in ((a, b), (b, a)) if own in flat and other not in flat]
    received = gan.group.exchange([(other // len(gan.workers), flat[own]) for own, other in leaving])
    arriving = dict(zip((own for own, _ in leaving), received, strict=True))
    for k, each in tensors.items():
        if partners[k] != k:
            content = arriving[k] if k in arriving else flat[partners[k]]
            for tensor, part in zip(each, content.split([tensor.numel() for tensor in each]), strict=True):
                tensor.copy_(part.view(tensor.shape))


def _state_of(gan: GAN, place: int) -> list[Tensor]:
    """Everything that belongs to one of this process's discriminators; Adam's count of steps is the same for all."""
    member = gan.discriminators.members[place]
    moments = [gan.discriminator_optimizer.state.get(parameter, {}) for parameter in member.parameters()]
    return [
        *(tensor.detach() for tensor in member.state_dict(keep_vars=True).values()),
        *(each[name] for each in moments for name in ("exp_avg", "exp_avg_sq") if name in each),
    ]
