"""Random streams that depend on their purpose and key, and on nothing that happened before.

Every draw of a run is a function of the run's seed and of its key (purpose, step, epoch, …). So a resumed run needs
no generator state, and two models with one seed start from the same weights, see the same order of images and the
same latents.
"""

import zlib
from collections.abc import Sequence

import numpy as np
import torch


def stream(seed: int, purpose: str, *key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A random number generator for one purpose and key.

    Streams are as independent as hashed seeds are: PyTorch's CPU generator takes 32 bits of the seed, so that among
    100,000 steps of a run about one pair shares its latents; a GPU's takes 63.

    Args:
        seed: the run's seed, 0 to 2**63 - 1.
        purpose: what is drawn: "generator", "discriminator", "order", "latents", …
        key: numbers that distinguish draws of one purpose, such as the step.
        device: where it draws. Devices of different kinds draw different numbers from one seed.
    """
    # A spawn key, unlike additional entropy, distinguishes () from (0,).
    sequence = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(purpose.encode()), *key))
    state = sequence.generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


def draw_latents(count: int, nz: int, seed: int, purpose: str, *key: int, device: torch.device | str) -> torch.Tensor:
    """Latents (count, nz) float32 from N(0, 1); see ``stream`` for the other arguments."""
    return torch.randn(count, nz, generator=stream(seed, purpose, *key, device=device), device=device)


def draw_labels(
    count: int, class_counts: Sequence[int], seed: int, purpose: str, *key: int, device: torch.device | str
) -> torch.Tensor:
    """Labels (count,) int64, each that of an image drawn at random from some with these classes.

    Args:
        count: how many.
        class_counts: images of each class, so that classes have the shares that they have among the images.
        seed: this and what follows as for ``stream``.
        purpose: what is drawn.
        *key: numbers that distinguish draws.
        device: where to draw.
    """
    last = torch.tensor(class_counts, device=device).cumsum(0)
    chosen = torch.randint(
        sum(class_counts), (count,), generator=stream(seed, purpose, *key, device=device), device=device
    )
    return torch.searchsorted(last, chosen, right=True)
