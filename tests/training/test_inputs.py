"""What a step is given: real images that are mirrored at random, and the numbers of an augmentation."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from d3gan import TrainConfig
from d3gan.training.inputs import StepInputs
from d3gan.training.step import StepContext

IMAGES = np.random.default_rng(0).integers(0, 256, (96, 1, 16, 16), np.uint8)


def inputs(rank: int = 0, world_size: int = 1, **changes: Any) -> StepInputs:
    settings: dict[str, Any] = dict(image_size=16, batch_size=8, nz=3, nc=1, seed=5) | changes
    group: Any = SimpleNamespace(rank=rank, world_size=world_size)
    return StepInputs(TrainConfig(**settings), IMAGES, group, torch.device("cpu"), torch.float64)


def test_each_image_is_mirrored_in_half_of_the_steps_and_nothing_else_changes() -> None:
    plain, flipping = inputs(), inputs(flips=True)
    flipped = []
    for step in range(60):
        ours, theirs = flipping.at(step), plain.at(step)
        assert torch.equal(ours[1], theirs[1])
        for image, before in zip(ours[0], theirs[0], strict=True):
            assert torch.equal(image, before) is not torch.equal(image, before.flip(-1))
            flipped.append(torch.equal(image, before.flip(-1)))
    assert sum(flipped) / len(flipped) == pytest.approx(0.5, abs=0.1)
    # A function of the step: whoever begins there draws the same.
    assert torch.equal(inputs(flips=True).at(37)[0], flipping.at(37)[0])


def draws(context: StepContext) -> Tensor:
    assert context.augment is not None
    return context.augment


@pytest.mark.parametrize("augment", ["translation,cutout", "ada"])
def test_two_processes_get_the_numbers_of_one(augment: str) -> None:
    keys: dict[str, Any] = {"augment": augment, "flips": True, "d_steps": 2}
    one = inputs(grad_accum_steps=2, **keys)
    for step in (0, 1, 7):
        images, _, context = one.at(step)
        parts = [inputs(rank, 2, **keys).at(step) for rank in (0, 1)]
        assert torch.equal(images, torch.cat([part[0] for part in parts]))
        assert torch.equal(draws(context), torch.cat([draws(part[2]) for part in parts]))
    # Of each batch, phase, real or fake, and image others; in another step others.
    numbers = torch.cat([draws(one.at(step)[2]).flatten(0, 3) for step in (0, 1)])
    assert len(numbers.unique(dim=0)) == len(numbers) == 2 * 4 * 2 * 2 * 8


def test_without_the_keys_nothing_is_drawn() -> None:
    assert inputs().at(0)[2] == StepContext()
