"""Whole steps of the family against a plain computation, and runs that stop and resume."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from d3gan import TrainConfig, train
from d3gan.runs.checkpoint import checkpoints, load_checkpoint
from d3gan.training.accumulation import step_in_parts
from d3gan.training.setup import build_gan
from d3gan.training.step import GAN, StepContext, train_step
from tests.training.test_step import batch_norm

Tiny = Callable[..., TrainConfig]
N = 6


def small_gan(**changes: Any) -> GAN:
    settings: dict[str, Any] = dict(image_size=16, nz=5, ngf=3, ndf=4, nc=1, lr=3e-3, beta1=0.4, beta2=0.95)
    settings |= dict(activation="relu")
    return build_gan(TrainConfig(**(settings | changes)), torch.device("cpu"), "float64")


def batch(step: int, d_steps: int = 1) -> tuple[Tensor, Tensor, StepContext]:
    random = torch.Generator().manual_seed(100 + step)
    size = N * d_steps
    real_images = torch.rand(size, 1, 16, 16, generator=random, dtype=torch.float64) * 2 - 1
    latents = torch.randn(size, 5, generator=random, dtype=torch.float64)
    return real_images, latents, StepContext(step, mixing=torch.rand(size, generator=random, dtype=torch.float64))


# --- The plain computation: each discriminator by itself, with probabilities, logarithms and Adam spelt out. --------


def images_of(weights: list[Tensor], latents: Tensor) -> Tensor:
    x = functional.conv_transpose2d(latents[:, :, None, None], weights[0], stride=1)
    for i in range(3):
        x = torch.clamp(batch_norm(x, weights[3 * i + 1], weights[3 * i + 2]), min=0)
        x = functional.conv_transpose2d(x, weights[3 * i + 3], stride=2, padding=1)
    return torch.tanh(x)


def judge(weights: list[Tensor], images: Tensor) -> Tensor:
    """Logits (N,)."""
    x = functional.conv2d(images, weights[0], stride=2, padding=1)
    x = torch.where(x > 0, x, 0.2 * x)
    for i in range(2):
        x = functional.conv2d(x, weights[3 * i + 1], stride=2, padding=1)
        x = batch_norm(x, weights[3 * i + 2], weights[3 * i + 3])
        x = torch.where(x > 0, x, 0.2 * x)
    return functional.conv2d(x, weights[7])[:, 0, 0, 0]


def s(a: Tensor) -> Tensor:
    return torch.log(1 + torch.exp(a))


def minus_log_sigmoid(a: Tensor) -> Tensor:
    return -torch.log(1 / (1 + torch.exp(-a)))


class Adam:
    """Kingma and Ba, arXiv:1412.6980, algorithm 1."""

    def __init__(self, weights: list[Tensor], lr: float, beta1: float, beta2: float):
        self.weights, self.lr, self.beta1, self.beta2, self.t = weights, lr, beta1, beta2, 0
        self.m = [torch.zeros_like(w) for w in weights]
        self.v = [torch.zeros_like(w) for w in weights]

    def minimize(self, loss: Tensor) -> None:
        self.t += 1
        gradients = torch.autograd.grad(loss, self.weights)
        for w, g, m, v in zip(self.weights, gradients, self.m, self.v, strict=True):
            m.copy_(self.beta1 * m + (1 - self.beta1) * g)
            v.copy_(self.beta2 * v + (1 - self.beta2) * g**2)
            corrected = m / (1 - self.beta1**self.t), v / (1 - self.beta2**self.t)
            w.data -= self.lr * corrected[0] / (torch.sqrt(corrected[1]) + 1e-8)


OfDiscriminator = Callable[[int, Tensor, Tensor], Tensor]
"""k, its real logits and its fake logits -> a loss."""


class Plain:
    """A GAN whose generator minimizes the sum over k of ``of_generator`` times ``factor``."""

    def __init__(
        self,
        gan: GAN,
        of_discriminator: OfDiscriminator,
        of_generator: OfDiscriminator,
        factor: float,
        adam: tuple[float, float, float] = (3e-3, 0.4, 0.95),
        adam_of_discriminators: tuple[float, float, float] = (3e-3, 0.4, 0.95),
        d_steps: int = 1,
    ):
        def copies(network: torch.nn.Module) -> list[Tensor]:
            return [p.detach().clone().requires_grad_() for p in network.parameters()]

        self.generator = copies(gan.generator)
        self.discriminators = [copies(member) for member in gan.discriminators.members]
        self._of_discriminator, self._of_generator, self._factor = of_discriminator, of_generator, factor
        self._adam = Adam(self.generator, *adam)
        self._adams = [Adam(weights, *adam_of_discriminators) for weights in self.discriminators]
        self._d_steps = d_steps

    def step(self, real_images: Tensor, latents: Tensor) -> float:
        for d_step in range(self._d_steps):
            part = slice(d_step * N, (d_step + 1) * N)
            reals, fakes = real_images[part], images_of(self.generator, latents[part])
            for k, weights in enumerate(self.discriminators):
                self._adams[k].minimize(
                    self._of_discriminator(k, judge(weights, reals), judge(weights, fakes.detach()))
                )
        losses = [self._of_generator(k, judge(w, reals), judge(w, fakes)) for k, w in enumerate(self.discriminators)]
        loss = self._factor * torch.stack(losses).sum()
        self._adam.minimize(loss)
        return loss.item()


def assert_equal_steps(gan: GAN, plain: Plain, d_steps: int = 1) -> None:
    for step in range(6):
        real_images, latents, context = batch(step, d_steps)
        result = train_step(gan, real_images, latents, context)
        assert result.generator_loss.item() == pytest.approx(plain.step(real_images, latents), rel=1e-9)
    networks = [gan.generator, *gan.discriminators.members]
    for network, weights in zip(networks, [plain.generator, *plain.discriminators], strict=True):
        for parameter, expected in zip(network.parameters(), weights, strict=True):
            torch.testing.assert_close(parameter.detach(), expected.detach(), rtol=1e-9, atol=1e-9)


def bce(k: int, real: Tensor, fake: Tensor) -> Tensor:
    return minus_log_sigmoid(real).mean() + minus_log_sigmoid(-fake).mean()


def bce_of_generator(k: int, real: Tensor, fake: Tensor) -> Tensor:
    return minus_log_sigmoid(fake).mean()


@pytest.mark.parametrize(("K", "weighting"), [(1, "argmax"), (2, "mean"), (3, "sum")])
def test_relativistic_steps_equal_the_plain_computation(K: int, weighting: str) -> None:
    gan = small_gan(loss="relativistic", pairing="own", discriminators=K, weighting=weighting)
    plain = Plain(
        gan,
        lambda k, real, fake: minus_log_sigmoid(real - fake).mean(),
        lambda k, real, fake: minus_log_sigmoid(fake - real).mean(),
        {"argmax": 1.0, "mean": 1 / K, "sum": 1.0}[weighting],
    )
    assert_equal_steps(gan, plain)


def test_d2gan_steps_equal_the_plain_computation() -> None:
    alpha, beta = 0.7, 0.3

    def of_discriminator(k: int, real: Tensor, fake: Tensor) -> Tensor:
        """-(alpha log D1(x) - D1(G(z))), and -(beta log D2(G(z)) - D2(x)), of positive outputs."""
        if k == 0:
            return -alpha * torch.log(s(real)).mean() + s(fake).mean()
        return s(real).mean() - beta * torch.log(s(fake)).mean()

    def of_generator(k: int, real: Tensor, fake: Tensor) -> Tensor:
        return -s(fake).mean() if k == 0 else beta * torch.log(s(fake)).mean()

    gan = small_gan(model="d2gan", d2gan_alpha=alpha, d2gan_beta=beta)
    assert len(gan.discriminators) == 2
    assert_equal_steps(gan, Plain(gan, of_discriminator, of_generator, 1.0))


@pytest.mark.parametrize("d_steps", [2, 3])
def test_several_discriminator_steps_see_images_of_their_own(d_steps: int) -> None:
    gan = small_gan(d_steps=d_steps, discriminators=2, weighting="mean")
    assert_equal_steps(gan, Plain(gan, bce, bce_of_generator, 0.5, d_steps=d_steps), d_steps)
    assert gan.generator.get_buffer("layers.1.num_batches_tracked") == 6 * d_steps


def test_the_discriminators_have_rates_of_their_own() -> None:
    gan = small_gan(discriminators=2, weighting="mean", lr_d=1e-3, beta1_d=0.0, beta2_d=0.9)
    assert_equal_steps(gan, Plain(gan, bce, bce_of_generator, 0.5, adam_of_discriminators=(1e-3, 0.0, 0.9)))
    gan = small_gan(discriminators=2, weighting="mean", beta2_d=0.9)
    assert_equal_steps(gan, Plain(gan, bce, bce_of_generator, 0.5, adam_of_discriminators=(3e-3, 0.4, 0.9)))


class PlainAugmented(Plain):
    """What both phases judge is changed by random numbers of their own: of phase, and of real or fake."""

    def augmented_step(self, gan: GAN, real_images: Tensor, latents: Tensor, context: StepContext) -> float:
        assert gan.augmentation is not None
        assert context.augment is not None
        u, fakes = context.augment[0], images_of(self.generator, latents)
        for k, weights in enumerate(self.discriminators):
            real = judge(weights, gan.augmentation(real_images, u[0, 0]))
            fake = judge(weights, gan.augmentation(fakes.detach(), u[0, 1]))
            self._adams[k].minimize(self._of_discriminator(k, real, fake))
        reals, fakes = gan.augmentation(real_images, u[1, 0]), gan.augmentation(fakes, u[1, 1])
        losses = [self._of_generator(k, judge(w, reals), judge(w, fakes)) for k, w in enumerate(self.discriminators)]
        loss = self._factor * torch.stack(losses).sum()
        self._adam.minimize(loss)
        return loss.item()


@pytest.mark.parametrize("augment", ["color,translation,cutout", "ada:blit,geom,color,filter,noise,cutout"])
def test_augmented_steps_equal_the_plain_computation(augment: str) -> None:
    keys: dict[str, Any] = {"loss": "relativistic", "pairing": "own", "discriminators": 2, "weighting": "mean"}
    gan = small_gan(**keys, augment=augment, ada_p=0.7)
    plain = PlainAugmented(
        gan,
        lambda k, real, fake: minus_log_sigmoid(real - fake).mean(),
        lambda k, real, fake: minus_log_sigmoid(fake - real).mean(),
        0.5,
    )
    assert gan.augmentation is not None
    for step in range(4):
        real_images, latents, _ = batch(step)
        random = torch.Generator().manual_seed(step)
        context = StepContext(step, augment=torch.rand(1, 2, 2, N, gan.augmentation.draws, generator=random))
        loss = train_step(gan, real_images, latents, context).generator_loss.item()
        assert loss == pytest.approx(plain.augmented_step(gan, real_images, latents, context), rel=1e-9)
    for network, weights in zip(gan.discriminators.members, plain.discriminators, strict=True):
        for parameter, expected in zip(network.parameters(), weights, strict=True):
            torch.testing.assert_close(parameter.detach(), expected.detach(), rtol=1e-9, atol=1e-9)


def test_penalties_are_those_at_the_augmented_images() -> None:
    gan = small_gan(augment="color,cutout", penalty="r1:2", discriminator_norm="none", discriminators=1)
    assert gan.augmentation is not None
    real_images, latents, _ = batch(0)
    augment = torch.rand(1, 2, 2, N, gan.augmentation.draws, generator=torch.Generator().manual_seed(3))
    seen = gan.augmentation(real_images, augment[0, 0, 0]).requires_grad_()
    (gradient,) = torch.autograd.grad(gan.discriminators.members[0](seen).sum(), seen)
    result = train_step(gan, real_images, latents, StepContext(augment=augment))
    assert result.penalties is not None
    assert result.penalties.item() == pytest.approx(gradient.square().sum().item() / N, rel=1e-9)


def test_a_rate_of_zero_is_one_of_their_own() -> None:
    gan = small_gan(lr_d=0.0)
    before = [p.detach().clone() for p in gan.discriminators.parameters()]
    train_step(gan, *batch(0))
    assert all(torch.equal(a, b) for a, b in zip(before, gan.discriminators.parameters(), strict=True))


def test_a_learned_lambda_is_stepped_by_the_generators_adam() -> None:
    gan = small_gan(discriminators=3, weighting="softmax", softmax_lambda="learned", softmax_challenge=0.3)
    first = small_gan(discriminators=3).generator
    real_images, latents, _ = batch(0)
    result = train_step(gan, real_images, latents)
    (v,) = gan.weighting.parameters()
    losses = torch.stack(
        [functional.softplus(-member(first(latents))).mean() for member in gan.discriminators.members]
    )
    sharpness = math.log1p(math.exp(-2.0))
    expected = torch.softmax(sharpness * losses, dim=0)
    torch.testing.assert_close(result.weights, expected.detach(), rtol=1e-9, atol=1e-12)
    # Adam's first step is its rate, against the sign of the gradient.
    assert v.grad is not None
    assert v.item() == pytest.approx(-2.0 - 3e-3 * math.copysign(1, v.grad.item()), rel=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"weighting": "mgd"},
        {"weighting": "softmax", "softmax_lambda": "learned"},
        {"weighting": "bandit", "d_steps": 2},
        {"loss": "relativistic", "pairing": "own"},
        {"penalty": "gp,r1:1:2,r2,lecam", "lecam_start": 1, "discriminator_norm": "spectral"},
    ],
)
def test_a_part_that_is_given_twice_is_as_good_as_once(changes: dict[str, Any]) -> None:
    """Means over two equal batches are those of one."""
    one, two = small_gan(discriminators=3, **changes), small_gan(discriminators=3, **changes)
    for step in range(3):
        real_images, latents, context = batch(step, one.d_steps)
        assert context.mixing is not None
        train_step(one, real_images, latents, context)
        mixing = torch.cat([context.mixing] * 2)
        twice = StepContext(step, mixing=mixing)
        step_in_parts(2)(two, torch.cat([real_images] * 2), torch.cat([latents] * 2), twice)
    for name, module in one.modules().items():
        for key, value in module.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                found = two.modules()[name].state_dict()[key]
                torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-10, msg=f"{name}.{key}")


# --- Runs that stop and resume --------------------------------------------------------------------------------------

TIMES = ("images_per_second", "images_per_second_without_data", "training_seconds", "peak_memory_bytes")

RUNS: dict[str, dict[str, Any]] = {
    "bandit": {"weighting": "bandit", "discriminators": 3},
    "learned": {"weighting": "softmax", "softmax_lambda": "learned", "discriminators": 3},
    "dropout": {"model": "dropout-gan"},
    "random": {"weighting": "random"},
    "mgd": {"weighting": "mgd"},
    "hgan": {"model": "hgan"},
    "d2gan": {"model": "d2gan"},
    "lecam": {"penalty": "lecam", "lecam_start": 4},
    "spectral": {"discriminator_norm": "spectral", "loss": "hinge"},
    "gp": {"discriminator_norm": "none", "penalty": "gp", "loss": "wasserstein"},
    "r3gan": {"discriminator_norm": "none", "penalty": "r1:0.1:3,r2:0.1", "loss": "relativistic", "pairing": "own"},
    "all": {
        "discriminator_norm": "spectral",
        "penalty": "gp:1:2,lecam",
        "lecam_start": 4,
        "d_steps": 2,
        "weighting": "bandit",
        "lr_d": 0.0004,
        "beta1_d": 0.0,
        "schedule": "cosine",
        "epochs": 4,
        "ema_half_life": 40,
    },
    "bf16": {"discriminator_norm": "spectral", "penalty": "gp,lecam", "lecam_start": 4, "precision": "bf16"},
    "gman": {"model": "gman", "batch_size": 8},
    "views": {"views": "slice,projection,width,dropout", "weighting": "softmax"},
    "microbatchgan": {"model": "microbatchgan", "batch_size": 8},
    "duelgan": {"model": "duelgan"},
    "duel in parts": {
        "model": "duelgan",
        "views": "dropout",
        "weighting": "bandit",
        "grad_accum_steps": 2,
        "batch_size": 2,
        "d_steps": 2,
    },
    "DiffAugment": {"flips": True, "augment": "color,translation,cutout", "weighting": "mean", "d_steps": 2},
    "ADA": {"augment": "ada", "ada_target": 0.0, "ada_length": 64, "loss": "hinge"},
    "ADA, bf16": {"augment": "ada:color,filter,noise,cutout", "ada_p": 0.8, "ada_ramp_up": 30, "precision": "bf16"},
    "ADA in parts": {"augment": "ada", "ada_length": 40, "flips": True, "grad_accum_steps": 2, "batch_size": 2},
    "parts": {"discriminator_norm": "spectral", "penalty": "gp", "weighting": "dropout", "grad_accum_steps": 2},
}


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def assert_same(a: Any, b: Any, path: str) -> None:
    """Equal bit for bit, tensors and numbers, at every depth."""
    assert type(a) is type(b), path
    if isinstance(a, Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}[{i}]")
    else:
        assert a == b, path


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_stops_in_the_middle_is_the_same(name: str, tiny: Tiny) -> None:
    """It stops where no checkpoint is due, no line is, and no epoch ends."""
    changes = RUNS[name] | {"max_steps": 9}
    whole = train(tiny("whole", **changes)).run
    train(tiny("parts", **(changes | {"max_steps": 4})))
    parts = train(tiny("parts", **changes)).run
    assert metrics(whole) == metrics(parts)
    first, second = (load_checkpoint(checkpoints(run / "checkpoints")[-1]) for run in (whole, parts))
    assert first.keys() == second.keys() >= {"weighting", "penalties"}
    expected = {"bandit": {"Q"}, "learned": {"v"}, "all": {"Q"}, "duel in parts": {"Q"}}.get(name, set())
    assert first["weighting"].keys() == expected
    assert ("real_anchor" in first["penalties"]) is ("lecam" in RUNS[name].get("penalty", ""))
    for part in first.keys() - {"metrics_log"}:  # which holds times
        assert_same(first[part], second[part], part)
    assert (whole / "generator.safetensors").read_bytes() == (parts / "generator.safetensors").read_bytes()


def test_what_a_run_remembers_has_moved(tiny: Tiny) -> None:
    """Or resuming it would show nothing."""
    run = train(tiny(**(RUNS["all"] | {"max_steps": 9}))).run
    state = load_checkpoint(checkpoints(run / "checkpoints")[-1])
    assert state["weighting"]["Q"].abs().min() > 0
    assert state["penalties"]["steps"] == 9
    assert state["penalties"]["real_anchor"].abs().min() > 0
    run = train(tiny("learned", **(RUNS["learned"] | {"max_steps": 9}))).run
    state = load_checkpoint(checkpoints(run / "checkpoints")[-1])
    assert state["weighting"]["v"] != -2.0
    assert len(state["generator_optimizer"]["param_groups"]) == 2
    lines = metrics(run)
    assert all(sum(line["weights"]) == pytest.approx(1.0, abs=1e-5) for line in lines)
    assert len({tuple(line["weights"]) for line in lines}) == len(lines)


def test_adas_p_moved_and_is_logged_with_r(tiny: Tiny) -> None:
    """Or resuming it would show nothing."""
    run = train(tiny(**(RUNS["ADA"] | {"max_steps": 9, "log_every": 1}))).run
    state = load_checkpoint(checkpoints(run / "checkpoints")[-1])["augmentation"]
    assert state["steps"] == 9
    p, r = ([line[name] for line in metrics(run)] for name in ("ada_p", "ada_r"))
    expected = [0.0]
    for step in range(4, 9, 4):  # 4 images of 4 steps by 64: quarters
        direction = math.copysign(1, mean) if (mean := sum(r[step - 4 : step]) / 4) else 0
        expected.append(min(1.0, max(0.0, expected[-1] + direction / 4)))
    assert p == [expected[0]] * 4 + [expected[1]] * 4 + [expected[2]]
    assert state["p"] == expected[2]
    assert len(set(r)) > 1
    assert set(p) != {0.0}


@pytest.mark.parametrize("weighting", ["random", "dropout"])
def test_every_step_of_a_run_draws_anew(weighting: str, tiny: Tiny) -> None:
    run = train(tiny(weighting=weighting, discriminators=3, log_every=1)).run
    weights = [line["weights"] for line in metrics(run)]
    assert len(weights) == 22
    assert {weight for each in weights for weight in each} == {0.0, 1.0}
    assert len({tuple(each) for each in weights}) >= 3
