"""What the processes of a run exchange in a step: bytes by model and number of processes."""

from d3gan.config.train_config import TrainConfig
from d3gan.training.step import GAN, running_statistics


def message_bytes(gan: GAN) -> dict[str, int]:
    """Bytes of each message of a step.

    Returns:
        ``generator_bytes`` and ``discriminator_bytes``, the gradients that are averaged: an MD-GAN's discriminators
        exchange none; ``exchange_bytes``, losses with BatchNorm statistics. Of an MD-GAN also ``swap_bytes``: what a
        discriminator takes with it when it changes places, its parameters, buffers and Adam's two moments.
    """
    networks = {"generator": gan.generator, "discriminator": gan.discriminators}
    sizes = {
        f"{name}_bytes": sum(p.numel() * p.element_size() for p in network.parameters())
        for name, network in networks.items()
    }
    statistics = running_statistics(gan.generator)
    numbers = sum(s.numel() for s in statistics) + 2 * gan.weighting.K + 1
    sizes["exchange_bytes"] = numbers * statistics[0].element_size()
    if gan.workers is not None:
        member = gan.discriminators.members[0]
        moving = [*member.state_dict().values(), *member.parameters(), *member.parameters()]
        sizes |= {"discriminator_bytes": 0, "swap_bytes": sum(t.numel() * t.element_size() for t in moving)}
    return sizes


def bytes_per_step(sizes: dict[str, int], config: TrainConfig, workers: int, steps_per_epoch: int) -> float:
    """Bytes that each process puts into messages per step, mean over the steps; 0 for one process.

    The gradients of the discriminators come once for each of their steps. Of an MD-GAN's K discriminators, K / W are
    in each process; one that changes places goes to another process with probability (K - K / W) / (K - 1).

    Args:
        sizes: as ``message_bytes``.
        config: of the run.
        workers: W.
        steps_per_epoch: with so many processes.
    """
    if workers == 1:
        return 0.0
    total = sizes["generator_bytes"] + config.d_steps * sizes["discriminator_bytes"] + sizes["exchange_bytes"]
    if "swap_bytes" not in sizes or not config.swap_every:
        return total
    K = config.recipe.discriminators
    own = K / workers
    leaving = own * (K - K % 2) / K * (K - own) / (K - 1)  # of an odd number one stays where it is
    return total + leaving * sizes["swap_bytes"] / (config.swap_every * steps_per_epoch)
