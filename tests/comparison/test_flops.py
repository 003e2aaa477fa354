"""What a step costs, against PyTorch's own counter of operations."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from d3gan import TrainConfig
from d3gan.comparison.flops import flops_per_image
from d3gan.training.accumulation import step_in_parts
from d3gan.training.setup import build_gan


@pytest.mark.parametrize(
    "sizes",
    [
        {"model": "dcgan"},
        {"model": "d3gan"},
        {"image_size": 16, "ngf": 8, "nc": 1, "discriminators": 3},
        {"image_size": 64, "ndf": 8, "nz": 7},
        {"image_size": 128},
        {"image_size": 16, "nc": 1, "grad_accum_steps": 2},
    ],
)
def test_operations_are_those_that_pytorch_counts(sizes: dict[str, Any]) -> None:
    config = TrainConfig(**{"batch_size": 2, "ngf": 4, "ndf": 4, **sizes})
    gan = build_gan(config, torch.device("cpu"), "float64")  # in which all layers are PyTorch's own
    images = config.batch_size * config.grad_accum_steps
    real_images = torch.zeros(images, config.nc, config.image_size, config.image_size, dtype=torch.float64)
    with FlopCounterMode(display=False) as counter:
        step_in_parts(config.grad_accum_steps)(gan, real_images, torch.zeros(images, config.nz, dtype=torch.float64))
    assert flops_per_image(config) == counter.get_total_flops() / images


def test_published_sizes() -> None:
    """The published numbers: 0.88 and 0.57 GFLOP per image."""
    assert round(flops_per_image(TrainConfig(model="d3gan")) / 1e9, 2) == 0.88
    assert round(flops_per_image(TrainConfig(model="dcgan")) / 1e9, 2) == 0.57
