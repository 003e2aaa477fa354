"""The models: the keys in which the GANs of the family differ, and where each comes from. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

Pairing = Literal["swapped", "own"]
Weighting = Literal["argmax", "argmin", "mean", "sum", "random", "softmax", "hypervolume", "dropout", "bandit", "mgd"]
Loss = Literal["bce", "hinge", "least-squares", "wasserstein", "relativistic", "d2gan"]
Activation = Literal["relu", "mish", "leaky_relu"]
Schedule = Literal["constant", "linear", "cosine"]
Sharded = Literal["on", "off"]
Model = Literal[
    "d3gan",
    "d3gan-mean",
    "dcgan",
    "d3gan-controlled",
    "d3gan-controlled-mean",
    "dcgan-controlled",
    "d2gan",
    "gman",
    "gman-mean",
    "hgan",
    "hgan-mean",
    "dropout-gan",
    "dropout-gan-mean",
    "md-gan",
]


@dataclass(frozen=True)
class Recipe:
    """The keys in which the GANs of the family differ; they share everything else."""

    discriminators: int
    pairing: Pairing
    weighting: Weighting
    loss: Loss
    activation: Activation
    schedule: Schedule
    sharded: Sharded = "off"


# Published programs (2023): DCGAN trains with ReLU and a learning rate that falls linearly to 0, D3GAN with Mish and
# a constant one. The controlled pair removes both confounders: its members differ in the number of discriminators
# alone (with one discriminator, swapping its loss with itself changes nothing). A -mean twin gives every
# discriminator the same weight and is otherwise its model: it separates "several discriminators" from "choosing".
# The numbers of discriminators: GMAN's program has 1, 2 or 5, hGAN's 8 by default, Dropout-GAN's paper up to 10.
MODELS: dict[Model, Recipe] = {
    "d3gan": Recipe(2, "swapped", "argmax", "bce", "mish", "constant"),
    "d3gan-mean": Recipe(2, "swapped", "mean", "bce", "mish", "constant"),
    "dcgan": Recipe(1, "swapped", "argmax", "bce", "relu", "linear"),
    "d3gan-controlled": Recipe(2, "swapped", "argmax", "bce", "relu", "constant"),
    "d3gan-controlled-mean": Recipe(2, "swapped", "mean", "bce", "relu", "constant"),
    "dcgan-controlled": Recipe(1, "swapped", "argmax", "bce", "relu", "constant"),
    "d2gan": Recipe(2, "own", "sum", "d2gan", "relu", "constant"),
    "gman": Recipe(5, "own", "softmax", "bce", "relu", "constant"),
    "gman-mean": Recipe(5, "own", "mean", "bce", "relu", "constant"),
    "hgan": Recipe(8, "own", "hypervolume", "bce", "relu", "constant"),
    "hgan-mean": Recipe(8, "own", "mean", "bce", "relu", "constant"),
    "dropout-gan": Recipe(5, "own", "dropout", "bce", "relu", "constant"),
    "dropout-gan-mean": Recipe(5, "own", "mean", "bce", "relu", "constant"),
    "md-gan": Recipe(2, "own", "mean", "bce", "relu", "constant", sharded="on"),
}

# What each model is compared with first: one discriminator less, or the mean over as many.
BASELINES: dict[Model, tuple[Model, ...]] = {
    "d3gan": ("dcgan", "d3gan-mean"),
    "d3gan-mean": ("dcgan",),
    "d3gan-controlled": ("dcgan-controlled", "d3gan-controlled-mean"),
    "d3gan-controlled-mean": ("dcgan-controlled",),
    "d2gan": ("dcgan-controlled",),
    "gman": ("gman-mean",),
    "gman-mean": ("dcgan-controlled",),
    "hgan": ("hgan-mean",),
    "hgan-mean": ("dcgan-controlled",),
    "dropout-gan": ("dropout-gan-mean",),
    "dropout-gan-mean": ("dcgan-controlled",),
    "md-gan": ("dcgan-controlled", "d3gan-controlled-mean"),
}

SOURCES: dict[Model, str] = {
    "d3gan": "the published D3GAN program (2023)",
    "d3gan-mean": "twin of d3gan: the generator learns from the mean of both discriminators",
    "dcgan": "Radford et al., arXiv:1511.06434, as in the D3GAN program",
    "d3gan-controlled": "d3gan with dcgan-controlled's activation and schedule",
    "d3gan-controlled-mean": "twin of d3gan-controlled: the mean of both discriminators",
    "dcgan-controlled": "dcgan with a constant learning rate: the baseline of d3gan-controlled",
    "d2gan": "Nguyen et al., arXiv:1709.03831; alpha 0.2, beta 0.1",
    "gman": "Durugkar et al., arXiv:1611.01673, lambda 1; every discriminator sees the whole batch",
    "gman-mean": "twin of gman: GMAN with lambda 0",
    "hgan": "Albuquerque et al., arXiv:1901.08680, slack 1.5; without random projections",
    "hgan-mean": "twin of hgan: the mean of 8 discriminators",
    "dropout-gan": "Mordido et al., arXiv:1807.11346, rate 0.5",
    "dropout-gan-mean": "twin of dropout-gan: no discriminator is left out",
    "md-gan": "Hardy et al., arXiv:1811.03850: each discriminator has a shard of the images of its own",
}
