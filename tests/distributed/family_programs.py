"""Steps of every rule, loss and regulariser: ``torchrun -m tests.distributed.family_programs FOLDER``.

Each process leaves what it computed in FOLDER/rank-N.pt.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3gan import TrainConfig
from d3gan.distributed.group import Group
from d3gan.distributed.setup import start
from d3gan.randomness import stream
from d3gan.training.accumulation import step_in_parts
from d3gan.training.inputs import StepInputs
from d3gan.training.setup import build_gan
from d3gan.training.step import GAN, StepContext

STEPS = 3
STEPS_OF_ADA = 6
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
SLICES: dict[str, Any] = {"views": "slice", "batch_size": 6}
OF_VIEWS: dict[str, dict[str, Any]] = {
    "view: slice": SLICES,
    "view: slice, softmax, penalties": SLICES
    | {"weighting": "softmax", "discriminator_norm": "spectral", "penalty": "gp:1,r1:0.5,lecam"},
    "view: slice, relativistic, bandit": SLICES | {"loss": "relativistic", "pairing": "own", "weighting": "bandit"},
    "view: projection": {"views": "projection"},
    "view: projection, gp": {"views": "projection", "penalty": "gp:1", "discriminator_norm": "none"},
    "view: width": {"views": "width", "weighting": "mean"},
    "view: width, one": {"views": "width"},
    "view: dropout": {"views": "dropout", "weighting": "mean"},
    "view: dropout, softmax": {"views": "dropout", "weighting": "softmax", "softmax_lambda": 5.0},
    "view: dropout, bandit, two d_steps": {"views": "dropout", "weighting": "bandit", "d_steps": 2},
    "view: dropout, mgd, gp": {
        "views": "dropout",
        "weighting": "mgd",
        "penalty": "gp:1",
        "discriminator_norm": "spectral",
    },
    "all views": {"views": "slice,projection,width,dropout", "batch_size": 6, "weighting": "random"},
}
OF_TERMS: dict[str, dict[str, Any]] = {
    "microbatch": SLICES | {"weighting": "sum", "microbatch_alpha": 0.5},
    "microbatch, mgd, spectral, lecam": SLICES
    | {"weighting": "mgd", "microbatch_alpha": 0.5, "discriminator_norm": "spectral", "penalty": "lecam"},
    "microbatch, softmax, dropout": SLICES
    | {"weighting": "softmax", "microbatch_alpha": 0.5, "views": "slice,dropout", "d_steps": 2},
    "duel": {"weighting": "mean", "duel_beta": 0.5, "duel_alpha": 0.3},
    "duel of two, dropout": {"discriminators": 2, "duel_beta": 0.5, "duel_alpha": 0.3, "views": "projection,dropout"},
    "duel, two d_steps, spectral, gp": {
        "duel_beta": 0.5,
        "duel_alpha": 0.3,
        "d_steps": 2,
        "discriminator_norm": "spectral",
        "penalty": "gp:1",
    },
}
OF_CLASSES: dict[str, dict[str, Any]] = {
    "classes": {"conditional": True},
    "classes, mean, two d_steps, spectral, gp, lecam": {
        "conditional": True,
        "weighting": "mean",
        "d_steps": 2,
        "discriminator_norm": "spectral",
        "penalty": "gp:1,r2:0.5,lecam",
    },
    "classes, microbatch": SLICES | {"conditional": True, "weighting": "sum", "microbatch_alpha": 0.5},
    "classes, duel, bandit": {"conditional": True, "duel_beta": 0.5, "duel_alpha": 0.3, "weighting": "bandit"},
}
# In four steps of two processes and d_steps = 2, p goes from 0 to 1/2.
ADA = {"augment": "ada", "ada_target": -1.0, "ada_length": 2 * 4 * 2 * 2 * BATCH}
OF_AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "augment: DiffAugment": {"augment": "color,translation,cutout"},
    "augment: DiffAugment, mgd, relativistic, two d_steps, gp": {
        "augment": "translation,cutout",
        "weighting": "mgd",
        "loss": "relativistic",
        "pairing": "own",
        "d_steps": 2,
        "penalty": "gp:1,r1:0.5",
        "discriminator_norm": "spectral",
    },
    "augment: ADA, bandit, two d_steps": ADA | {"weighting": "bandit", "d_steps": 2},
    "augment: all of ADA, slices, microbatch, softmax": SLICES
    | {
        "augment": "ada:blit,geom,color,filter,noise,cutout",
        "ada_p": 0.7,
        "ada_ramp_up": 50,
        "weighting": "softmax",
        "microbatch_alpha": 0.5,
    },
    "augment: DiffAugment, classes": {"augment": "color,translation", "conditional": True},
    "augment: DiffAugment, duel, dropout": {
        "augment": "color",
        "duel_beta": 0.5,
        "duel_alpha": 0.3,
        "views": "dropout",
    },
}
OF_NETWORKS: dict[str, dict[str, Any]] = {
    "sndcgan, classes, DiffAugment": {"network": "sndcgan", "conditional": True, "augment": "color,cutout"},
    "resnet, classes, hinge, two d_steps": {
        "network": "resnet",
        "image_size": 32,
        "conditional": True,
        "loss": "hinge",
        "d_steps": 2,
        "weighting": "mean",
    },
    "r3gan, classes, relativistic, r1, r2, ADA": {
        "network": "r3gan",
        "conditional": True,
        "loss": "relativistic",
        "pairing": "own",
        "penalty": "r1:0.5,r2:0.5",
        "augment": "ada",
        "ada_p": 0.6,
    },
}
GROUPS = OF_RULES, OF_LOSSES, OF_PENALTIES, OTHERS, OF_VIEWS, OF_TERMS, OF_CLASSES, OF_AUGMENTATIONS, OF_NETWORKS
CASES = {name: case for group in GROUPS for name, case in group.items()}
CLASSES = 5


def config(changes: dict[str, Any]) -> TrainConfig:
    settings: dict[str, Any] = dict(image_size=16, batch_size=BATCH, nz=6, ngf=4, ndf=4, discriminators=K, lr=0.001)
    settings |= dict(device="cpu", seed=13, lecam_start=1)
    return TrainConfig(**(settings | changes))


def batch(config: TrainConfig, step: int, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Real images, latents and mixing of one rank; rank 1's images are far brighter."""
    size, side = config.batch_size * config.d_steps, config.image_size
    random = stream(0, "test", step, rank)
    real_images = torch.rand(size, 3, side, side, generator=random, dtype=torch.float64) * 0.5 + (
        0.5 if rank else -1.0
    )
    latents = torch.randn(size, 6, generator=random, dtype=torch.float64)
    return real_images, latents, torch.rand(size, generator=random, dtype=torch.float64)


def context(config: TrainConfig, step: int, ranks: Sequence[int], mixing: Tensor) -> StepContext:
    """With the numbers that the training loop would draw for the batches of these ranks, one after the other."""
    images = np.zeros((6 * config.images_per_step, 3, config.image_size, config.image_size), np.uint8)
    labels = np.arange(len(images)) % CLASSES if config.conditional else None
    contexts = []
    for rank in ranks:
        group = SimpleNamespace(rank=rank, world_size=2)
        inputs = StepInputs(config, images, group, torch.device("cpu"), torch.float64, labels)  # type: ignore[arg-type]
        contexts.append(inputs.at(step)[2])
    seeds = tuple(seed for each in contexts for seed in each.mask_seeds)
    mixtures = (
        torch.cat([m for each in contexts if (m := each.mixtures) is not None]) if config.recipe.duel_beta else None
    )
    draws = [each.augment for each in contexts if each.augment is not None]
    augment = torch.cat(draws) if draws else None
    found = StepContext(step, uniforms(step), mixing, mixtures, contexts[0].progress, seeds, augment=augment)
    if not config.conditional:
        return found
    real_labels = torch.cat([each.real_labels for each in contexts if each.real_labels is not None])
    fake_labels = torch.cat([each.fake_labels for each in contexts if each.fake_labels is not None])
    return replace(found, real_labels=real_labels, fake_labels=fake_labels)


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
    """Some steps in float64.

    Args:
        name: of the case.
        parts: batches of this process.
        group: its processes.
        rank: whose batch; None: those of all ranks, one after the other.
    """
    of_case = config(CASES[name])
    parted = replace(of_case, grad_accum_steps=parts)
    gan = build_gan(parted, torch.device("cpu"), "float64", group, CLASSES if of_case.conditional else 0)
    weights, losses, penalties, ada = [], [], [], []
    for step in range(STEPS_OF_ADA if of_case.augment == "ada" else STEPS):
        ranks = (0, 1) if rank is None else (rank,)
        shards = [batch(of_case, step, r) for r in ranks]
        real_images, latents, mixing = (torch.cat(each) for each in zip(*shards, strict=True))
        result = step_in_parts(parts)(gan, real_images, latents, context(of_case, step, ranks, mixing))
        weights.append(result.weights)
        losses.append(result.losses)
        if result.penalties is not None:
            penalties.append(result.penalties)
        if result.ada is not None:
            ada.append(result.ada)
    measured = {"weights": torch.stack(weights), "losses": torch.stack(losses)}
    measured |= {"penalties": torch.stack(penalties)} if penalties else {}
    measured |= {"ada": torch.stack(ada)} if ada else {}
    return {"state": state_of(gan), **measured}


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
