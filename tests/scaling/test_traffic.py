"""What the processes of a run exchange, in bytes."""

from typing import Any

import pytest
import torch

from d3gan import TrainConfig
from d3gan.distributed.group import Group
from d3gan.scaling.projection import project
from d3gan.scaling.traffic import bytes_per_step, message_bytes
from d3gan.training.setup import build_gan
from tests.scaling.documents import LINK, document

# Of the networks at 32 x 32 pixels with width 64, in float32 (tests/models/test_dcgan.py counts their parameters).
G, D = 4 * 2_962_304, 4 * 2_759_424
STATISTICS = 4 * 2 * (512 + 256 + 128 + 64)  # means and variances of BatchNorm


def sizes_of(**changes: Any) -> tuple[TrainConfig, dict[str, int]]:
    config = TrainConfig(**changes)
    return config, message_bytes(build_gan(config, torch.device("cpu"), "float32"))


def test_d3gan_exchanges_the_gradients_of_all_networks() -> None:
    config, sizes = sizes_of(model="d3gan")
    assert bytes_per_step(sizes, config, 2, 234) == G + 2 * D + STATISTICS + 4 * 5
    assert bytes_per_step(sizes, config, 8, 58) == bytes_per_step(sizes, config, 2, 234)
    assert bytes_per_step(sizes, config, 1, 468) == 0
    twice = TrainConfig(model="d3gan", d_steps=2)
    assert bytes_per_step(sizes, twice, 2, 234) - bytes_per_step(sizes, config, 2, 234) == 2 * D


def test_md_gan_exchanges_the_generators_alone_and_swaps() -> None:
    config, sizes = sizes_of(model="md-gan")
    alone = G + STATISTICS + 4 * 5
    # Each of two processes sends its discriminator with two moments, once an epoch.
    assert bytes_per_step(sizes, config, 2, 234) == pytest.approx(alone + 3 * D / 234)
    assert bytes_per_step(sizes, TrainConfig(model="md-gan", swap_every=3), 2, 234) == pytest.approx(
        alone + 3 * D / 702
    )
    assert bytes_per_step(sizes, TrainConfig(model="md-gan", swap_every=0), 2, 234) == alone
    assert bytes_per_step(sizes, config, 1, 468) == 0


def test_the_numbers_of_the_docs() -> None:
    """The table of docs/distributed.md: MNIST, 128 images in each process."""
    for model, K, workers, megabytes in (
        ("dcgan", 1, 2, 22.9),
        ("d3gan", 2, 2, 33.9),
        ("d3gan", 8, 8, 100.2),
        ("md-gan", 2, 2, 12.0),
        ("md-gan", 8, 8, 12.4),
    ):
        config, sizes = sizes_of(model=model, discriminators=K)
        assert round(bytes_per_step(sizes, config, workers, 60000 // (128 * workers)) / 1e6, 1) == megabytes


@pytest.mark.parametrize(("K", "workers", "leaving"), [(4, 2, 2 * 2 / 3), (4, 4, 1.0), (3, 3, 2 / 3)])
def test_discriminators_of_one_process_swap_for_nothing(K: int, workers: int, leaving: float) -> None:
    config = TrainConfig(model="md-gan", discriminators=K, batch_size=12, ndf=2, ngf=2)
    sizes = message_bytes(build_gan(config, torch.device("cpu"), "float32", Group()))
    still = TrainConfig(model="md-gan", discriminators=K, swap_every=0)
    swaps = bytes_per_step(sizes, config, workers, 10) - bytes_per_step(sizes, still, workers, 10)
    assert swaps == pytest.approx(leaving * sizes["swap_bytes"] / 10)


def test_a_projection_counts_the_generators_gradients_and_the_swaps() -> None:
    """Without computation that hides them, what the model gives for md-gan is what it gives for its messages."""
    made = document(workers=(1, 2), batch_sizes=(64,), models=("d3gan",))
    sizes = {"generator_bytes": G, "discriminator_bytes": 0, "exchange_bytes": 4_000, "swap_bytes": 3 * D}
    made |= {"gradients": {"d3gan": sizes}, "swap_every": 2}
    step = 60000 // (64 * 2)
    modelled = LINK.seconds(G, 2) + LINK.seconds(4_000, 2) + (LINK.alpha + 3 * D / LINK.beta) / (2 * step)
    measured = made["rows"][-1]["communication_seconds"]["median"]
    assert project(made, "d3gan", 64, 16).communication_ratio == pytest.approx(measured / modelled)
