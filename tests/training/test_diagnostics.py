"""What metrics.jsonl says of the discriminators, and the warnings about them."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from d3gan import TrainConfig
from d3gan.runs.directory import RunDirectory
from d3gan.training.diagnostics import MANY_LINES, Alarms, diagnose
from d3gan.training.loop import train
from d3gan.training.setup import build_gan
from d3gan.training.step import GAN

N = 6
Tiny = Callable[..., TrainConfig]


def small_gan(K: int, **changes: Any) -> GAN:
    config = TrainConfig(image_size=16, nz=5, ngf=3, ndf=4, nc=1, discriminators=K, **changes)
    return build_gan(config, torch.device("cpu"), "float64")


def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    real_images = torch.rand(N, 1, 16, 16, generator=random, dtype=torch.float64) * 2 - 1
    return real_images, torch.randn(N, 5, generator=random, dtype=torch.float64)


def test_numbers_are_those_of_a_plain_computation() -> None:
    gan, (real_images, latents) = small_gan(3), batch()
    found = diagnose(gan, real_images, latents, N)
    fake_images = gan.generator(latents).detach().requires_grad_()
    logits = []
    for k, member in enumerate(gan.discriminators.members):
        real, fake = member(real_images).detach(), member(fake_images)
        assert found["real_signs"][k] == pytest.approx(real.sign().mean().item())
        above = sum(float(a > b) for a in real for b in fake)
        assert found["separation"][k] == pytest.approx(above / N**2)
        (gradient,) = torch.autograd.grad(functional.softplus(-fake).sum(), fake_images)
        assert found["gradient_norms"][k] == pytest.approx(gradient.flatten(1).norm(dim=1).mean().item())
        logits.append(fake.detach())
    table = torch.corrcoef(torch.stack(logits))
    assert found["agreement"] == pytest.approx((table[0, 1] + table[0, 2] + table[1, 2]).item() / 3)


def test_several_batches_give_their_means() -> None:
    gan, (real_images, latents) = small_gan(2), batch()
    both = diagnose(gan, real_images, latents, N // 2)
    halves = [diagnose(gan, *part, N // 2) for part in zip(real_images.chunk(2), latents.chunk(2), strict=True)]
    assert both.keys() == halves[0].keys()
    for name, values in both.items():
        assert values == pytest.approx((np.array(halves[0][name]) + np.array(halves[1][name])) / 2), name


def test_equal_discriminators_agree_and_one_has_nobody_to_agree_with() -> None:
    gan = small_gan(2)
    gan.discriminators.members[1].load_state_dict(gan.discriminators.members[0].state_dict())
    assert diagnose(gan, *batch(), N)["agreement"] == pytest.approx(1.0)
    assert diagnose(small_gan(1), *batch(), N)["agreement"] is None


@pytest.mark.parametrize(
    "changes",
    [{}, {"loss": "d2gan", "weighting": "sum", "pairing": "own"}, {"loss": "relativistic", "pairing": "own"}],
    ids=str,
)
@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_nothing_changes(norm: str, changes: dict[str, Any]) -> None:
    gan = small_gan(2, discriminator_norm=norm, **changes)
    before = {name: copy.deepcopy(module.state_dict()) for name, module in gan.modules().items()}
    found = diagnose(gan, *batch(), N)
    assert all(norm > 0 for norm in found["gradient_norms"])
    for name, module in gan.modules().items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, before[name][key]), f"{name}.{key}"
        assert all(parameter.grad is None for parameter in module.parameters())


def test_a_number_that_is_not_finite_is_none() -> None:
    gan = small_gan(2)
    with torch.no_grad():
        next(gan.discriminators.members[1].parameters()).fill_(float("nan"))
    found = diagnose(gan, *batch(), N)
    assert found["agreement"] is None
    assert found["gradient_norms"][0] is not None
    assert found["gradient_norms"][1] is None
    json.dumps(found, allow_nan=False)


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in RunDirectory(run).metrics.read_text().splitlines()]


def test_a_run_trains_the_same_with_and_without(tiny: Tiny) -> None:
    runs = [train(tiny(name, max_steps=6, diagnostics=on)).run for name, on in (("with", True), ("without", False))]
    assert len({(run / "generator.safetensors").read_bytes() for run in runs}) == 1
    having, lacking = (lines_of(run)[-1] for run in runs)
    assert having.keys() - lacking.keys() == {"real_signs", "separation", "gradient_norms", "agreement"}
    assert all(0 <= share <= 1 for share in having["separation"])


def test_a_resumed_run_writes_the_same_numbers(tiny: Tiny) -> None:
    whole = train(tiny("whole", max_steps=8)).run
    train(tiny("stopped", max_steps=3))
    stopped = train(tiny("stopped", max_steps=8)).run
    names = ("step", "real_signs", "separation", "gradient_norms", "agreement")
    assert [[line[n] for n in names] for line in lines_of(whole)] == [
        [line[n] for n in names] for line in lines_of(stopped)
    ]


def test_discriminators_that_have_become_one_are_reported_once(said: list[str]) -> None:
    alarms, line = Alarms(), {"separation": [0.7, 0.6], "agreement": 0.999}
    for step in range(MANY_LINES - 1):
        alarms.look_at(step, line)
    alarms.look_at(50, line | {"agreement": 0.5})  # not in a row
    assert not said
    for step in range(100, 100 + 2 * MANY_LINES):
        alarms.look_at(step, line)
    assert len(said) == 1
    assert said[0].startswith(f"step {100 + MANY_LINES - 1}: the discriminators have become one")


def test_a_saturated_discriminator_is_named(said: list[str]) -> None:
    alarms = Alarms()
    for step in range(MANY_LINES):
        alarms.look_at(step, {"separation": [0.7, 1.0], "agreement": None})
    assert len(said) == 1
    assert "discriminator 1 distinguishes all real from all fake images" in said[0]
