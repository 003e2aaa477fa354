"""A step that is recorded or compiled does what the plain one does."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from d3gan import TrainConfig, train
from d3gan.errors import ConfigError
from d3gan.training.acceleration import GraphedStep, Step, accelerate, make_capturable, set_learning_rates
from d3gan.training.setup import build_gan
from d3gan.training.step import GAN, StepContext, StepResult, train_step


def tiny_gan(**changes: Any) -> GAN:
    settings = dict(image_size=16, nz=5, ngf=4, ndf=4, nc=1) | changes
    return build_gan(TrainConfig(**settings), torch.device("cpu"), "float64")


def batch(step: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(step)
    images = torch.rand(6, 1, 16, 16, generator=random, dtype=torch.float64) * 2 - 1
    return images, torch.randn(6, 5, generator=random, dtype=torch.float64)


def context(step: int, draws: int) -> StepContext:
    random = torch.Generator().manual_seed(50 + step)
    uniforms, mixing = (torch.rand(size, generator=random, dtype=torch.float64) for size in (3, 6))
    mixtures = torch.randint(12, (1, 3, 6), generator=random)
    augment = torch.rand(1, 2, 2, 6, draws, generator=random) if draws else None
    progress = torch.tensor((1 + step) / 10, dtype=torch.float64)
    return StepContext(step, uniforms, mixing, mixtures, progress, augment=augment)


def steps(gan: GAN, step: Step, places: range) -> list[list[float]]:
    errors, draws = [], gan.augmentation.draws if gan.augmentation is not None else 0
    for place in places:
        set_learning_rates(gan, 1e-3 / (1 + place), 2e-3 / (1 + place))
        errors.append(step(*batch(place), context(place, draws)).losses.tolist())
    return errors


def states(gan: GAN) -> list[dict[str, Any]]:
    return [copy.deepcopy(part.state_dict()) for part in parts(gan)]


def parts(gan: GAN) -> tuple[Any, ...]:
    return *gan.modules().values(), *gan.optimizers().values()


def weights(gan: GAN) -> list[Tensor]:
    return [t.detach() for module in gan.modules().values() for t in module.state_dict().values()]


def plain(gan: GAN) -> Step:
    return accelerate(gan, 1, compile=False, cuda_graph=False)


def recorded(gan: GAN, times: list[int] | None = None) -> Step:
    """As on a GPU, but what is recorded is done again by the host."""

    def record(step: Callable[[], StepResult]) -> Callable[[], StepResult]:
        if times is not None:
            times.append(1)
        return step

    for optimizer in (gan.generator_optimizer, gan.discriminator_optimizer):
        make_capturable(optimizer, True)
    return GraphedStep(gan, functools.partial(train_step, gan), record)


def test_a_recorded_step_equals_the_plain_one_from_the_first_on() -> None:
    """Its warm-up leaves no trace, and each step sees its own images, latents and learning rate."""
    one, other, times = tiny_gan(), tiny_gan(), list[int]()
    assert steps(one, plain(one), range(4)) == steps(other, recorded(other, times), range(4))
    assert times == [1]
    for a, b in zip(weights(one), weights(other), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "changes",
    [
        {"weighting": "softmax", "softmax_lambda": "learned"},
        {"weighting": "dropout", "discriminator_norm": "spectral", "penalty": "gp,lecam", "lecam_start": 1},
        {"weighting": "bandit", "discriminator_norm": "none", "penalty": "r1,r2"},
        {"duel_beta": 0.5, "duel_alpha": 0.3, "views": "projection,width"},
        {"microbatch_alpha": 0.5, "views": "slice", "batch_size": 6},
        {"augment": "translation,cutout", "batch_size": 6},
        {"augment": "ada:blit,cutout", "ada_target": -1.0, "ada_length": 20, "batch_size": 6},
    ],
)
def test_what_rules_and_penalties_remember_is_recorded_too(changes: dict[str, Any]) -> None:
    """The warm-up leaves no trace in it, and each step sees its own random numbers."""
    one, other = tiny_gan(**changes), tiny_gan(**changes)
    assert steps(one, plain(one), range(4)) == steps(other, recorded(other), range(4))
    for a, b in zip(weights(one), weights(other), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("first", "then"), [(plain, recorded), (recorded, plain), (recorded, recorded)])
def test_a_run_goes_on_recorded_or_not(first: Callable[[GAN], Step], then: Callable[[GAN], Step]) -> None:
    straight, before, after = tiny_gan(), tiny_gan(), tiny_gan()
    steps(straight, plain(straight), range(5))
    steps(before, first(before), range(3))
    for part, state in zip(parts(after), states(before), strict=True):
        part.load_state_dict(state)
    steps(after, then(after), range(3, 5))
    for a, b in zip(weights(straight), weights(after), strict=True):
        assert torch.equal(a, b)


def test_a_cuda_graph_without_cuda_is_refused(tiny: Any) -> None:
    with pytest.raises(ConfigError, match="cuda_graph = on: needs a CUDA device, this is cpu; use auto or off"):
        train(tiny(cuda_graph="on", device="cpu"))


@pytest.mark.slow  # half a minute of compiling
@pytest.mark.filterwarnings("ignore")  # torch.compile's own, which it takes for errors
def test_compiled_networks_give_the_same_numbers_and_a_run_with_them_resumes(tiny: Any) -> None:
    one, other = tiny_gan(), tiny_gan()
    expected = steps(one, plain(one), range(4))
    found = steps(other, accelerate(other, 1, compile=True, cuda_graph=False), range(4))
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-9, atol=1e-9)
    for a, b in zip(weights(one), weights(other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    through = train(tiny("through", compile="on", max_steps=4)).run
    train(tiny("stopped", compile="on", max_steps=2))
    stopped = train(tiny("stopped", compile="on", max_steps=4)).run
    assert (through / "generator.safetensors").read_bytes() == (stopped / "generator.safetensors").read_bytes()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_graph_equals_the_plain_step() -> None:
    config = TrainConfig(image_size=16, nz=5, ngf=4, ndf=4, nc=1)
    one, other = (build_gan(config, torch.device("cuda"), "float64") for _ in range(2))
    for gan, graph in ((one, False), (other, True)):
        step = accelerate(gan, 1, compile=False, cuda_graph=graph)
        for place in range(6):
            set_learning_rates(gan, 1e-3 / (1 + place), 2e-3 / (1 + place))
            images, latents = batch(place)
            step(images.cuda(), latents.cuda(), StepContext())
    for a, b in zip(weights(one), weights(other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)  # on the device Adam corrects its bias in float32
