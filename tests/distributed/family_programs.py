"""Steps of every rule, loss and regulariser: ``torchrun -m tests.distributed.family_programs FOLDER``.

Each process leaves what it computed in FOLDER/rank-N.pt.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d3gan import TrainConfig
from d3gan.distributed.group import Group
from d3gan.distributed.setup import start
from d3gan.randomness import stream
from d3gan.training.accumulation import step_in_parts
from d3gan.training.setup import build_gan
from d3gan.training.step import GAN, StepContext

STEPS = 3
BATCH = 4
K = 3

OF_RULES: dict[str, dict[str, Any]] = {
    name: {"weighting": name}
    for name in ("argmax", "argmin", "mean", "sum", "random", "hypervolume", "dropout", "bandit", "mgd")
}
OF_RULES |= {
    "softmax": {"weighting": "softmax", "softmax_lambda": 5.0},
    "softmax of constant weights": {"weighting": "softmax", "softmax_gradient": False},
    "softmax learned": {"weighting": "softmax", "softmax_lambda": "learned", "softmax_challenge": 0.1},
}
OF_LOSSES: dict[str, dict[str, Any]] = {
    name: {"loss": name, "pairing": "own"} for name in ("bce", "hinge", "least-squares", "relativistic")
}
OF_LOSSES |= {
    "wasserstein": {"loss": "wasserstein", "discriminator_norm": "spectral"},
    "relativistic of all": {"loss": "relativistic", "pairing": "own", "weighting": "softmax"},
    "d2gan": {"model": "d2gan", "discriminators": 2},
}
OF_PENALTIES: dict[str, dict[str, Any]] = {
    name: {"penalty": name, "discriminator_norm": "none"} for name in ("gp:1", "r1:0.5", "r2:0.5", "lecam")
}
OF_PENALTIES |= {"all, some lazy": {"penalty": "gp:1:2,r1:0.5,r2:0.5:2,lecam", "discriminator_norm": "none"}}
OTHERS: dict[str, dict[str, Any]] = {
    "spectral": {"discriminator_norm": "spectral"},
    "spectral, penalties": {"discriminator_norm": "spectral", "penalty": "gp:1,r1:0.5,lecam"},
    "two d_steps": {"d_steps": 2},
    "two d_steps, spectral, gp, mgd": {
        "d_steps": 2,
        "discriminator_norm": "spectral",
        "penalty": "gp:1,lecam",
        "weighting": "mgd",
    },
    "two d_steps, relativistic, bandit": {
        "d_steps": 2,
        "loss": "relativistic",
        "pairing": "own",
        "weighting": "bandit",
    },
    "rates": {"lr_d": 0.001, "beta1_d": 0.0, "beta2_d": 0.9},
}
CASES = {**OF_RULES, **OF_LOSSES, **OF_PENALTIES, **OTHERS}


def config(changes: dict[str, Any]) -> TrainConfig:
    settings: dict[str, Any] = dict(image_size=16, batch_size=BATCH, nz=6, ngf=4, ndf=4, discriminators=K, lr=0.001)
    settings |= dict(device="cpu", seed=13, lecam_start=1)
    return TrainConfig(**(settings | changes))


def batch(config: TrainConfig, step: int, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Real images, latents and mixing of one rank; rank 1's images are far brighter."""
    size = BATCH * config.d_steps
    random = stream(0, "test", step, rank)
    real_images = torch.rand(size, 3, 16, 16, generator=random, dtype=torch.float64) * 0.5 + (0.5 if rank else -1.0)
    latents = torch.randn(size, 6, generator=random, dtype=torch.float64)
    return real_images, latents, torch.rand(size, generator=random, dtype=torch.float64)


def uniforms(step: int) -> Tensor:
    return torch.rand(K + 1, generator=stream(0, "uniforms", step))


def state_of(gan: GAN) -> dict[str, Tensor]:
    """Everything a step changes and later steps read; not BatchNorm's count of batches, which nobody reads."""
    states: dict[str, Tensor] = {}
    for name, module in gan.modules().items():
        states |= {f"{name}.{key}": value.clone() for key, value in module.state_dict().items()}
    for name, optimizer in gan.optimizers().items():
        for index, moments in optimizer.state_dict()["state"].items():
            states |= {f"{name}.{index}.{key}": value.clone() for key, value in moments.items()}
    return {key: value for key, value in states.items() if not key.endswith("num_batches_tracked")}


def steps(name: str, parts: int, group: Group, rank: int | None) -> dict[str, Any]:
    """Three steps in float64.

    Args:
        name: of the case.
        parts: batches of this process.
        group: its processes.
        rank: whose batch; None: those of all ranks, one after the other.
    """
    of_case = config(CASES[name])
    gan = build_gan(of_case, torch.device("cpu"), "float64", group)
    weights, losses, penalties = [], [], []
    for step in range(STEPS):
        shards = [batch(of_case, step, r) for r in ((0, 1) if rank is None else (rank,))]
        real_images, latents, mixing = (torch.cat(each) for each in zip(*shards, strict=True))
        result = step_in_parts(parts)(gan, real_images, latents, StepContext(step, uniforms(step), mixing))
        weights.append(result.weights)
        losses.append(result.losses)
        if result.penalties is not None:
            penalties.append(result.penalties)
    measured = {"weights": torch.stack(weights), "losses": torch.stack(losses)}
    return {"state": state_of(gan), **measured, **({"penalties": torch.stack(penalties)} if penalties else {})}


def main() -> None:
    folder = Path(sys.argv[1])
    with start("cpu", timeout=60) as (group, _):
        # Together with the other rank, and each as if it were alone.
        results = {
            name: {
                "together": steps(name, 1, group, group.rank),
                "alone": steps(name, 1, Group(), group.rank)["weights"],
            }
            for name in CASES
        }
        torch.save(results, folder / f"rank-{group.rank}.pt")


if __name__ == "__main__":
    main()
