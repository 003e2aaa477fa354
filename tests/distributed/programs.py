"""What tests have several processes do: ``torchrun -m tests.distributed.programs NAME FOLDER``.

Each leaves what it found in FOLDER/rank-N.pt.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from d3gan import TrainConfig
from d3gan.distributed.group import Group, hostname
from d3gan.distributed.setup import start
from d3gan.errors import ConfigError, ExternalError
from d3gan.randomness import stream
from d3gan.training.accumulation import step_in_parts
from d3gan.training.setup import build_gan
from d3gan.training.step import GAN, StepContext, StepResult, train_step

STEPS = 6
BATCH = 4


def config(K: int) -> TrainConfig:
    # With this seed the two ranks alone would select differently in each of the six steps, for K = 2 and 3.
    return TrainConfig(image_size=16, batch_size=BATCH, nz=6, ngf=4, ndf=4, discriminators=K, device="cpu", seed=13)


def batch(step: int, rank: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Real images and latents of one rank; rank 1's images are far brighter."""
    noise = stream(0, "test", step, rank)
    real_images = torch.rand(BATCH, 3, 16, 16, generator=noise, dtype=dtype) * 0.5 + (0.5 if rank else -1.0)
    return real_images, torch.randn(BATCH, 6, generator=noise, dtype=dtype)


def state_of(gan: GAN) -> dict[str, Tensor]:
    """All parameters and running statistics; not BatchNorm's count of batches, which nobody reads."""
    found: dict[str, Tensor] = {}
    for name, network in (("generator", gan.generator), ("discriminators", gan.discriminators)):
        values = network.state_dict().items()
        found |= {f"{name}.{key}": v.clone() for key, v in values if v.is_floating_point()}
    return found


def steps(group: Group, K: int) -> dict[str, Any]:
    """Six steps in float64: the networks, the selections, and what each rank would have selected alone."""
    gan = build_gan(config(K), torch.device("cpu"), "float64", group)
    selected, alone = [], []
    for step in range(STEPS):
        own = batch(step, group.rank)
        with torch.no_grad():
            real, fake = (torch.nn.functional.softplus(sign * logits).mean(1) for sign, logits in _judged(gan, *own))
        alone.append(int((real + gan.pairing(fake)).argmax()))
        selected.append(int(train_step(gan, *own).selected))
    return {"state": state_of(gan), "selected": selected, "alone": alone}


def _judged(gan: GAN, real_images: Tensor, latents: Tensor) -> list[tuple[int, Tensor]]:
    buffers = {name: buffer.clone() for name, buffer in gan.generator.named_buffers()}
    fakes = torch.func.functional_call(gan.generator, buffers, latents)
    real, fake, _ = gan.discriminators(real_images, fakes)
    return [(-1, real), (1, fake)]


def first_gradients(group: Group) -> dict[str, Tensor]:
    """The gradients of a first step in float32, before Adam makes signs of them."""
    gan = build_gan(config(2), torch.device("cpu"), "float32", group)
    train_step(gan, *batch(0, group.rank, torch.float32))
    return gradients_of(gan.discriminators, "discriminators") | gradients_of(gan.generator, "generator")


def gradients_of(network: torch.nn.Module, name: str) -> dict[str, Tensor]:
    return {f"{name}.{key}": p.grad.clone() for key, p in network.named_parameters() if p.grad is not None}


def failures(group: Group) -> list[str]:
    """What each process raises where one, all or none of them fail."""

    def outcome(error: Exception | None) -> str:
        try:
            with group.raise_on_all_ranks():
                if error is not None:
                    raise error
        except Exception as raised:
            return f"{type(raised).__name__}: {raised}".replace(hostname(), "HOST")
        return "well"

    second = ConfigError("no such thing") if group.rank == 1 else None
    # A defect is nobody's to hide, nor is it waited for.
    return [outcome(e) for e in (second, ExternalError("all alike"), None, ValueError("a defect"))]


def reductions(group: Group) -> list[str]:
    """Which network's gradients are reduced, in order, in a step of one batch and in one of two."""
    gan = build_gan(config(3), torch.device("cpu"), "float64", group)
    seen: list[str] = []

    def noting(name, bucket):  # type: ignore[no-untyped-def]  # or PyTorch wants its own, private types
        seen.append(name)
        total = torch.distributed.all_reduce(bucket.buffer(), async_op=True).get_future()
        return total.then(lambda done: done.value()[0] / group.world_size)

    for name, wrapped in (("generator", gan.ddp_generator), ("discriminators", gan.ddp_discriminators)):
        assert isinstance(wrapped, DistributedDataParallel)
        wrapped.register_comm_hook(name, noting)
    train_step(gan, *batch(0, group.rank))
    seen.append("/")
    real_images, latents = (torch.cat(each) for each in zip(*(batch(s, group.rank) for s in (1, 2)), strict=True))
    step_in_parts(2)(gan, real_images, latents, StepContext())
    return seen


def collectives(group: Group) -> list[int]:
    """Sizes of what a step exchanges beside the gradients."""
    gan = build_gan(config(2), torch.device("cpu"), "float64", group)
    seen: list[int] = []
    original = torch.distributed.all_reduce

    def noting(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
        seen.append(tensor.numel())
        return original(tensor, *arguments, **options)

    torch.distributed.all_reduce = noting
    try:
        result: StepResult = train_step(gan, *batch(0, group.rank))
    finally:
        torch.distributed.all_reduce = original
    assert result.real_losses.shape == (2,)
    return seen


def main() -> None:
    folder = Path(sys.argv[1])
    with start("cpu", timeout=60) as (group, _):
        found = {
            "two": steps(group, 2),
            "three": steps(group, 3),
            "gradients": first_gradients(group),
            "reductions": reductions(group),
            "collectives": collectives(group),
            "failures": failures(group),
        }
        torch.save(found, folder / f"rank-{group.rank}.pt")


if __name__ == "__main__":
    main()
