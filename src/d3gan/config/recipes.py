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
    "microbatchgan",
    "duelgan",
    "duelgan-mean",
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
    views: str = "same"
    """What each discriminator is shown and is: same, or some of slice, projection, width and dropout."""
    microbatch_alpha: float = 0.0
    duel_beta: float = 0.0
    duel_alpha: float = 0.0
    sharded: Sharded = "off"


# The original D3GAN program and the DCGAN program beside it (Savinay Shukla and Ishaan Pitty, 2023): DCGAN trains
# with ReLU and a learning rate that falls linearly to 0, D3GAN with Mish and
# a constant one. The controlled pair removes both confounders: its members differ in the number of discriminators
# alone (with one discriminator, swapping its loss with itself changes nothing). A -mean twin gives every
# discriminator the same weight and is otherwise its model: it separates "several discriminators" from "choosing".
# The numbers of discriminators: hGAN's program has 8 by default, Dropout-GAN's paper up to 10. GMAN's program has 1,
# 2 or 5, each with a batch of its own; here they divide one batch, so they are 4, which divides 32, 64 and 128. So is
# microbatchGAN's number, which is ours, as its alpha is. DuelGAN's program has beta 0.5 and alpha 0.3 at most.
MODELS: dict[Model, Recipe] = {
    "d3gan": Recipe(2, "swapped", "argmax", "bce", "mish", "constant"),
    "d3gan-mean": Recipe(2, "swapped", "mean", "bce", "mish", "constant"),
    "dcgan": Recipe(1, "swapped", "argmax", "bce", "relu", "linear"),
    "d3gan-controlled": Recipe(2, "swapped", "argmax", "bce", "relu", "constant"),
    "d3gan-controlled-mean": Recipe(2, "swapped", "mean", "bce", "relu", "constant"),
    "dcgan-controlled": Recipe(1, "swapped", "argmax", "bce", "relu", "constant"),
    "d2gan": Recipe(2, "own", "sum", "d2gan", "relu", "constant"),
    "gman": Recipe(4, "own", "softmax", "bce", "relu", "constant", "slice,dropout"),
    "gman-mean": Recipe(4, "own", "mean", "bce", "relu", "constant", "slice,dropout"),
    "hgan": Recipe(8, "own", "hypervolume", "bce", "relu", "constant", "projection"),
    "hgan-mean": Recipe(8, "own", "mean", "bce", "relu", "constant", "projection"),
    "dropout-gan": Recipe(5, "own", "dropout", "bce", "relu", "constant"),
    "dropout-gan-mean": Recipe(5, "own", "mean", "bce", "relu", "constant"),
    "md-gan": Recipe(2, "own", "mean", "bce", "relu", "constant", sharded="on"),
    "microbatchgan": Recipe(4, "own", "sum", "bce", "relu", "constant", "slice", microbatch_alpha=0.5),
    "duelgan": Recipe(2, "own", "mean", "bce", "relu", "constant", duel_beta=0.5, duel_alpha=0.3),
    "duelgan-mean": Recipe(2, "own", "mean", "bce", "relu", "constant"),
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
    "microbatchgan": ("dcgan-controlled",),
    "duelgan": ("duelgan-mean",),
    "duelgan-mean": ("dcgan-controlled",),
}

SOURCES: dict[Model, str] = {
    "d3gan": "Shukla and Pitty 2023, Distributed Training of Dual Discriminator GANs",
    "d3gan-mean": "twin of d3gan: the generator learns from the mean of both discriminators",
    "dcgan": "Radford, Metz and Chintala 2015, arXiv:1511.06434, as the original D3GAN program trains it",
    "d3gan-controlled": "d3gan with dcgan-controlled's activation and schedule",
    "d3gan-controlled-mean": "twin of d3gan-controlled: the mean of both discriminators",
    "dcgan-controlled": "dcgan with a constant learning rate: the baseline of d3gan-controlled",
    "d2gan": "Nguyen et al., arXiv:1709.03831; alpha 0.2, beta 0.1",
    "gman": "Durugkar et al., arXiv:1611.01673, lambda 1; each sees its part of the batch, dropout as in the program",
    "gman-mean": "twin of gman: GMAN with lambda 0",
    "hgan": "Albuquerque et al., arXiv:1901.08680, slack 1.5; each sees a random projection, as in the program",
    "hgan-mean": "twin of hgan: the mean of 8 discriminators",
    "dropout-gan": "Mordido et al., arXiv:1807.11346, rate 0.5",
    "dropout-gan-mean": "twin of dropout-gan: no discriminator is left out",
    "md-gan": "Hardy et al., arXiv:1811.03850: each discriminator has a shard of the images of its own",
    "microbatchgan": "Mordido et al., arXiv:2001.03376; alpha grows to 0.5 over the run",
    "duelgan": "Wei et al., arXiv:2101.07524: the duel of the paper, with the program's beta and alpha",
    "duelgan-mean": "twin of duelgan without the duel: what DuelGAN's program computes, whose duel has no gradient",
}
