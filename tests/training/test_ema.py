"""The moving average of the generator: the formula, the statistics, and that a run keeps it exactly."""

import math
from collections.abc import Callable

import pytest
import torch

from d3gan import TrainConfig, load_generator, train
from d3gan.models.dcgan import Generator, initialize
from d3gan.randomness import stream
from d3gan.runs.checkpoint import checkpoints, load_checkpoint
from d3gan.runs.directory import RunDirectory
from d3gan.training.ema import MovingAverage, decay_of
from d3gan.training.setup import build_gan

Tiny = Callable[..., TrainConfig]


def generator(seed: int) -> Generator:
    network = Generator(image_size=16, nz=6, ngf=4, nc=3)
    initialize(network, stream(seed, "generator"))
    return network.double()


def test_weights_and_statistics_follow_the_formula() -> None:
    trained = generator(0)
    average = MovingAverage(trained, decay_of(TrainConfig(ema=0.9), 4))
    expected = {name: value.clone() for name, value in trained.state_dict().items()}
    for step in range(1, 200):
        trained.train()(torch.randn(4, 6, dtype=torch.float64))  # moves the running statistics
        for parameter in trained.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.01)
        average.update(trained, step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in trained.state_dict().items():
            float_value = value.is_floating_point()
            expected[name] = decay * expected[name] + (1 - decay) * value if float_value else value.clone()
    for name, value in average.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)
    assert not torch.equal(
        average.state_dict()["layers.1.running_mean"], trained.state_dict()["layers.1.running_mean"]
    )


def test_the_average_starts_as_a_copy_and_touches_nothing_of_the_trained_one() -> None:
    trained = generator(1)
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    average = MovingAverage(trained, lambda step: 0.999)
    average.update(generator(2), 1)
    assert all(torch.equal(before[name], value) for name, value in trained.state_dict().items())
    assert not any(parameter.requires_grad for parameter in average.generator.parameters())


@pytest.mark.parametrize(("ramp_up", "steps"), [(0.0, 100), (0.05, 400)])
def test_after_half_life_images_half_of_an_old_average_is_left(ramp_up: float, steps: int) -> None:
    decay = decay_of(TrainConfig(ema_half_life=640, ema_ramp_up=ramp_up), 64)
    left = math.prod(decay(step) for step in range(steps + 1, steps + 11))  # 10 steps of 64 images
    assert left == pytest.approx(0.5)


def test_the_half_life_is_at_most_a_share_of_the_images_seen() -> None:
    decay = decay_of(TrainConfig(ema_half_life=640, ema_ramp_up=0.05), 64)
    assert decay(1) == pytest.approx(0.5 ** (1 / 0.05))  # half-life 0.05 * 64
    assert decay(100) == pytest.approx(0.5 ** (64 / 320))
    assert decay(200) == decay(10_000) == pytest.approx(0.5 ** (64 / 640))


def test_the_first_steps_count_for_more(tiny: Tiny) -> None:
    run = RunDirectory(train(tiny("run", ema=0.999, max_steps=1)).run)
    config = tiny("run", ema=0.999, max_steps=1)
    first = build_gan(config, torch.device("cpu"), "float32").generator.state_dict()["layers.0.weight"]
    name = "layers.0.weight"
    after, averaged = (load_generator(p).state_dict()[name] for p in (run.generator, run.averaged_generator))
    torch.testing.assert_close(averaged, 2 / 11 * first + 9 / 11 * after)
    assert not torch.equal(first, after)


@pytest.mark.parametrize("first", [7, 13])
def test_a_stopped_run_keeps_the_same_average_and_the_same_weights(first: int, tiny: Tiny) -> None:
    whole = RunDirectory(train(tiny("whole", ema=0.95)).run)
    train(tiny("parts", ema=0.95, max_steps=first))
    parts = RunDirectory(train(tiny("parts", ema=0.95)).run)
    without = RunDirectory(train(tiny("without")).run)
    assert whole.averaged_generator.read_bytes() == parts.averaged_generator.read_bytes()
    states = [load_checkpoint(checkpoints(run.checkpoints)[-1]) for run in (whole, parts, without)]
    for name, value in states[0]["generator"].items():
        assert torch.equal(value, states[2]["generator"][name]), "the average must not change the training"
    assert "average" not in states[2]
    assert not without.averaged_generator.exists()
    raw, averaged = load_generator(whole.path), load_generator(whole.averaged_generator)
    assert not torch.equal(raw.state_dict()["layers.0.weight"], averaged.state_dict()["layers.0.weight"])
