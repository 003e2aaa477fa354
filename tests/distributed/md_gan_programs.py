"""Steps of MD-GANs: ``torchrun -m tests.distributed.md_gan_programs FOLDER``.

Each process leaves what it computed in FOLDER/rank-N.pt.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3gan import TrainConfig
from d3gan.distributed.group import Group
from d3gan.distributed.setup import start
from d3gan.training.accumulation import step_in_parts
from d3gan.training.diagnostics import diagnose
from d3gan.training.inputs import StepInputs
from d3gan.training.md_gan_state import gather_states
from d3gan.training.setup import build_gan

STEPS = 5  # of 2 per epoch: two swaps
SLICE = 3  # images per discriminator

CASES: dict[str, dict[str, Any]] = {
    "two": {"discriminators": 2},
    "four, whose pairs cross": {"discriminators": 4},
    "six in two processes": {"discriminators": 6, "swap_every": 2},
    "sum": {"discriminators": 2, "weighting": "sum"},
    "two d_steps": {"discriminators": 4, "d_steps": 2},
    "two d_steps, spectral, penalties": {
        "discriminators": 4,
        "d_steps": 2,
        "discriminator_norm": "spectral",
        "penalty": "gp:1,r1:0.5:2",
    },
    "DiffAugment, two d_steps": {"discriminators": 4, "d_steps": 2, "augment": "color,translation,cutout"},
    # p moves by 1/2 in the fourth step.
    "ADA, flips": {"discriminators": 2, "augment": "ada", "ada_target": -1.0, "ada_length": 48, "flips": True},
    "relativistic, DiffAugment": {"discriminators": 2, "loss": "relativistic", "augment": "translation"},
    "relativistic": {"discriminators": 2, "loss": "relativistic"},
    "classes": {"discriminators": 4, "d_steps": 2, "conditional": True},
}


def config(name: str, processes: int) -> TrainConfig:
    settings: dict[str, Any] = dict(
        model="md-gan", image_size=16, nz=6, ngf=4, ndf=4, lr=0.001, seed=13, device="cpu"
    )
    settings |= CASES[name]
    return TrainConfig(**settings, batch_size=SLICE * settings["discriminators"] // processes)


def images(config: TrainConfig, processes: int) -> np.ndarray:
    """As many as two steps take, of very different brightness."""
    rng = np.random.default_rng(0)
    count = 2 * config.images_per_step * processes + 1
    pixels = rng.integers(0, 80, (count, 3, 16, 16)) + rng.integers(0, 170, (count, 1, 1, 1))
    return pixels.astype(np.uint8)


def steps(name: str, group: Group) -> dict[str, Any]:
    """Some steps in float64: everything that they changed, and what was measured."""
    of_case = config(name, group.world_size)
    pixels = images(of_case, group.world_size)
    labels = np.arange(len(pixels)) % 3 if of_case.conditional else None
    inputs = StepInputs(of_case, pixels, group, torch.device("cpu"), torch.float64, labels)
    gan = build_gan(of_case, torch.device("cpu"), "float64", group, 3 if of_case.conditional else 0)
    results, swaps = [], 0
    for step in range(STEPS):
        real_images, latents, context = inputs.at(step)
        swaps += context.partners is not None
        result = step_in_parts(1, sharded=True)(gan, real_images, latents, context)
        (generator_loss,) = group.mean([result.generator_loss[None]])
        numbers = [result.real_losses, result.fake_losses, result.losses, result.weights, generator_loss]
        numbers += [each for each in (result.penalties, result.ada) if each is not None]
        results.append(torch.cat(numbers))
    found = diagnose(gan, real_images, latents, of_case.batch_size, context)
    return {
        "results": torch.stack(results),
        "diagnostics": torch.tensor([found[name] for name in ("real_signs", "separation", "gradient_norms")]),
        "swaps": swaps,
        "generator": tensors(gan.generator.state_dict()),
        "generator_optimizer": tensors(gan.generator_optimizer.state_dict()),
        "states": {name: tensors(state) for name, state in gather_states(gan).items()},
    }


def tensors(state: Any, name: str = "") -> dict[str, Tensor]:
    """The floating tensors at any depth, by their path."""
    if isinstance(state, Tensor):
        return {name: state.clone()} if state.is_floating_point() else {}
    items = state.items() if isinstance(state, dict) else ()
    return {key: tensor for k, value in items for key, tensor in tensors(value, f"{name}/{k}").items()}


def reductions(group: Group) -> dict[str, list[int]]:
    """Numbers that a step exchanges: in gradients, in other all-reduces, and in swaps."""
    of_case = config("four, whose pairs cross", group.world_size)
    inputs = StepInputs(of_case, images(of_case, 2), group, torch.device("cpu"), torch.float64)
    gan = build_gan(of_case, torch.device("cpu"), "float64", group)
    seen: dict[str, list[int]] = {"gradients": [], "others": [], "swaps": []}

    def noting(_, bucket):  # type: ignore[no-untyped-def]  # or PyTorch wants its own, private types
        seen["gradients"].append(bucket.buffer().numel())
        total = all_reduce(bucket.buffer(), async_op=True).get_future()
        return total.then(lambda done: done.value()[0] / group.world_size)

    gan.ddp_generator.register_comm_hook(None, noting)  # type: ignore[operator]
    all_reduce, exchange = torch.distributed.all_reduce, group.exchange

    def noting_others(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
        seen["others"].append(tensor.numel())
        return all_reduce(tensor, *arguments, **options)

    def noting_swaps(messages: Any) -> list[Tensor]:
        seen["swaps"] += [tensor.numel() for _, tensor in messages]
        return exchange(messages)

    torch.distributed.all_reduce, group.exchange = noting_others, noting_swaps  # type: ignore[method-assign]
    try:
        for step in range(3):  # with a swap before the third
            step_in_parts(1, sharded=True)(gan, *inputs.at(step))
    finally:
        torch.distributed.all_reduce = all_reduce
        group.exchange = exchange  # type: ignore[method-assign]
    return seen


def main() -> None:
    folder = Path(sys.argv[1])
    with start("cpu", timeout=60) as (group, _):
        found = {name: steps(name, group) for name in CASES}
        torch.save({"steps": found, "reductions": reductions(group)}, folder / f"rank-{group.rank}.pt")


if __name__ == "__main__":
    main()
