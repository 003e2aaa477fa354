"""Steps of discriminators that differ, and of terms between them, against a plain computation; each one by itself."""

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import d3gan
from d3gan import TrainConfig, train
from d3gan.cli import main
from d3gan.distributed.group import Group
from d3gan.randomness import stream
from d3gan.training.diagnostics import diagnose
from d3gan.training.inputs import StepInputs
from d3gan.training.penalties import GRADIENT_PENALTIES
from d3gan.training.setup import build_gan
from d3gan.training.step import GAN, StepContext, discriminator_losses, generator_phase, train_step
from d3gan.training.terms import draw_mixtures, duel, parabola
from d3gan.training.weighting import WEIGHTINGS
from tests.training.test_family import Adam, images_of, minus_log_sigmoid
from tests.training.test_step import batch_norm

Tiny = Callable[..., TrainConfig]
N = 6
SEED = 11


def small_config(**changes: Any) -> TrainConfig:
    settings: dict[str, Any] = dict(image_size=16, nz=5, ngf=3, ndf=4, nc=1, lr=3e-3, beta1=0.4, beta2=0.95)
    settings |= dict(activation="relu", batch_size=N, discriminators=3, pairing="own", seed=SEED, model="d3gan")
    return TrainConfig(**(settings | changes))


def small_gan(**changes: Any) -> GAN:
    return build_gan(small_config(**changes), torch.device("cpu"), "float64")


def batch(step: int) -> tuple[Tensor, Tensor, StepContext]:
    random = torch.Generator().manual_seed(100 + step)
    real_images = torch.rand(N, 1, 16, 16, generator=random, dtype=torch.float64) * 2 - 1
    latents = torch.randn(N, 5, generator=random, dtype=torch.float64)
    mixtures = torch.randint(2 * N, (1, 3, N), generator=random)
    progress = torch.tensor((step + 1) / 10, dtype=torch.float64)
    return real_images, latents, StepContext(step, None, None, mixtures, progress, (7000 + step,))


class Plain:
    """The GAN of a config, each discriminator by itself, with masks, slices and mixtures spelt out."""

    def __init__(self, gan: GAN, config: TrainConfig):
        def copies(network: torch.nn.Module) -> list[Tensor]:
            return [p.detach().clone().requires_grad_() for p in network.parameters()]

        self.K, self.views, self.recipe = config.recipe.discriminators, config.view_names, config.recipe
        self.generator = copies(gan.generator)
        self.discriminators = [copies(member) for member in gan.discriminators.members]
        self.adam = Adam(self.generator, 3e-3, 0.4, 0.95)
        self.adams = [Adam(weights, 3e-3, 0.4, 0.95) for weights in self.discriminators]
        if "projection" in self.views:
            self.filters = [member.get_buffer("0.filter").clone() for member in gan.discriminators.members]
            for k, found in enumerate(self.filters):
                drawn = torch.randn(1, 1, 4, 4, generator=stream(SEED, "projection", k)).double()
                torch.testing.assert_close(found, drawn / torch.sqrt((drawn**2).sum()), rtol=1e-6, atol=1e-7)

    def judge(self, k: int, images: Tensor, rng: torch.Generator) -> Tensor:
        """Logits (N,) of discriminator k; the masks come from ``rng``."""
        weights, keep = self.discriminators[k], 0.4 + 0.2 * (k + 1) / self.K

        def activate(x: Tensor) -> Tensor:
            x = torch.where(x > 0, x, 0.2 * x)
            if "dropout" not in self.views:
                return x
            return torch.where(torch.rand(x.shape, generator=rng) < keep, x / keep, torch.zeros_like(x))

        if "projection" in self.views:
            images = functional.conv2d(functional.pad(images, (2, 2, 2, 2)), self.filters[k])
        x = activate(functional.conv2d(images, weights[0], stride=2, padding=1))
        x = functional.conv2d(x, weights[1], stride=2, padding=1)
        x = activate(batch_norm(x, weights[2], weights[3]))
        x = functional.conv2d(x, weights[4], stride=2, padding=1)
        x = batch_norm(x, weights[5], weights[6])
        return functional.conv2d(torch.where(x > 0, x, 0.2 * x), weights[7])[:, 0, 0, 0]

    def own(self, k: int, images: Tensor) -> Tensor:
        size = N // self.K
        return images[k * size : (k + 1) * size] if "slice" in self.views else images

    def others(self, k: int, images: Tensor) -> Tensor:
        size = N // self.K
        return images[[i for i in range(N) if not k * size <= i < (k + 1) * size]]

    def step(self, real_images: Tensor, latents: Tensor, context: StepContext) -> tuple[list[float], float]:
        """The losses of the discriminators before their update, and the generator's."""
        K, t = self.K, 100 * context.progress.item()  # type: ignore[union-attr]
        fakes = images_of(self.generator, latents)
        detached = fakes.detach()
        rngs = [stream(context.mask_seeds[0], "masks", 0, k) for k in range(K)]
        losses, added = [], []
        for k in range(K):
            real = minus_log_sigmoid(self.judge(k, self.own(k, real_images), rngs[k])).mean()
            losses.append(real + minus_log_sigmoid(-self.judge(k, self.own(k, detached), rngs[k])).mean())
        for k in range(K):
            term = torch.zeros((), dtype=torch.float64)
            if self.recipe.microbatch_alpha:
                judged = self.judge(k, self.others(k, detached), rngs[k])
                term = self.recipe.microbatch_alpha * t / 100 * minus_log_sigmoid(judged).mean()
            added.append(term)
        if self.recipe.duel_beta:
            beta, alpha = (m * -4e-4 * t * (t - 100) for m in (self.recipe.duel_beta, self.recipe.duel_alpha))
            both = torch.cat([real_images, detached])
            u1, u2, u3 = (both[rows] for rows in context.mixtures[0])  # type: ignore[index]
            on = [[self.judge(k, u, rngs[k]) for u in (u1, u2, u3)] for k in range(K)]
            for k in range(K):
                for j in (j for j in range(K) if j != k):
                    agree = (torch.sigmoid(on[j][0]).detach() * minus_log_sigmoid(on[k][0])).mean()
                    by_default = (torch.sigmoid(on[j][2]).detach() * minus_log_sigmoid(on[k][1])).mean()
                    added[k] = added[k] + beta * (agree - alpha * by_default) / (K - 1)
        for k in range(K):
            self.adams[k].minimize(losses[k] + added[k])

        rngs = [stream(context.mask_seeds[0], "masks", 1, k) for k in range(K)]
        of_generator = []
        for k in range(K):
            loss = minus_log_sigmoid(self.judge(k, self.own(k, fakes), rngs[k])).mean()
            if self.recipe.microbatch_alpha:
                judged = self.judge(k, self.others(k, fakes), rngs[k])
                loss = loss + self.recipe.microbatch_alpha * t / 100 * minus_log_sigmoid(-judged).mean()
            of_generator.append(loss)
        measured = [loss.item() for loss in losses]
        if self.recipe.weighting == "argmax":
            loss = of_generator[measured.index(max(measured))]
        else:
            loss = torch.stack(of_generator).sum() / (K if self.recipe.weighting == "mean" else 1)
        self.adam.minimize(loss)
        return measured, loss.item()


TERMS: dict[str, dict[str, Any]] = {
    "microbatch": {"views": "slice", "weighting": "sum", "microbatch_alpha": 0.7},
    "microbatch of two": {"views": "slice", "discriminators": 2, "weighting": "sum", "microbatch_alpha": 0.7},
    "microbatch, argmax, dropout": {"views": "slice,dropout", "weighting": "argmax", "microbatch_alpha": 0.7},
    "duel": {"discriminators": 2, "weighting": "mean", "duel_beta": 0.9, "duel_alpha": 0.6},
    "duel of three": {"weighting": "mean", "duel_beta": 0.9, "duel_alpha": 0.6},
    "duel, views": {"weighting": "mean", "duel_beta": 0.9, "views": "projection,width,dropout"},
}
CASES: dict[str, dict[str, Any]] = {
    **{f"{view}, {rule}": {"views": view, "weighting": rule}
       for view in ("slice", "projection", "width", "dropout", "slice,projection,width,dropout")
       for rule in ("mean", "argmax")},
    "same": {"views": "same", "weighting": "mean"},
    "dropout of one": {"views": "dropout", "discriminators": 1},
    **TERMS,
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_steps_equal_the_plain_computation(name: str) -> None:
    config = small_config(**CASES[name])
    gan = build_gan(config, torch.device("cpu"), "float64")
    plain, before = Plain(gan, config), copy.deepcopy(gan.discriminators)
    for step in range(5):
        real_images, latents, context = batch(step)
        if "dropout" not in config.view_names:
            context = StepContext(step, None, None, context.mixtures, context.progress)
        result = train_step(gan, real_images, latents, context)
        losses, loss = plain.step(*batch(step))
        assert result.losses.tolist() == pytest.approx(losses, rel=1e-9)
        assert result.generator_loss.item() == pytest.approx(loss, rel=1e-9)
        assert (result.penalties is not None) == (name in TERMS)
    networks = [gan.generator, *gan.discriminators.members]
    for network, weights in zip(networks, [plain.generator, *plain.discriminators], strict=True):
        for parameter, expected in zip(network.parameters(), weights, strict=True):
            torch.testing.assert_close(parameter.detach(), expected.detach(), rtol=1e-9, atol=1e-9)
    for key, buffer in gan.discriminators.named_buffers():
        assert torch.equal(buffer, before.get_buffer(key)), "nothing trains a projection"
    assert bool(list(before.buffers())) == ("projection" in config.view_names)


@pytest.mark.parametrize("views", ["slice", "width", "slice,width"])
def test_with_one_discriminator_slices_and_widths_change_no_bit(views: str) -> None:
    gans = [small_gan(discriminators=1, views=each) for each in ("same", views)]
    for gan in gans:
        for step in range(3):
            real_images, latents, _ = batch(step)
            train_step(gan, real_images, latents)
    for first, second in zip(*(gan.modules().values() for gan in gans), strict=True):
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["r1", "r2", "gp"])
def test_gradient_penalties_are_of_what_each_sees(name: str) -> None:
    gan = small_gan(views="slice", penalty=f"{name}:1", discriminator_norm="none")
    real_images, latents, _ = batch(0)
    mixing = torch.linspace(0.1, 0.9, N, dtype=torch.float64)
    fakes = gan.generator(latents).detach()
    _, measured = discriminator_losses(gan, real_images, fakes, StepContext(mixing=mixing))
    for k, member in enumerate(gan.discriminators.members):
        rows = slice(2 * k, 2 * k + 2)
        expected = GRADIENT_PENALTIES[name](member, real_images[rows], fakes[rows], mixing[rows])
        assert measured["penalties"][k].item() == pytest.approx(expected.item(), rel=1e-12)
        assert expected.item() > 0


# --- Runs -----------------------------------------------------------------------------------------------------------


def test_each_batch_of_each_step_has_its_own_draws() -> None:
    config = small_config(model="duelgan", views="dropout", d_steps=2, grad_accum_steps=2, epochs=3)
    pixels = np.zeros((config.images_per_step * 5, 1, 16, 16), np.uint8)
    inputs = StepInputs(config, pixels, Group(), torch.device("cpu"), torch.float64)
    contexts = [inputs.at(step)[2] for step in (0, 1, 14)]
    seeds = [seed for context in contexts for seed in context.mask_seeds]
    assert len(seeds) == len(set(seeds)) == 3 * 4
    mixtures = torch.cat([context.mixtures for context in contexts if context.mixtures is not None])
    assert mixtures.shape == (3 * 4, 3, N)
    assert len(set(map(str, mixtures.tolist()))) == 3 * 4
    progress = [context.progress.item() for context in contexts if context.progress is not None]
    assert progress == pytest.approx([0, 1 / 15, 14 / 15])  # of 3 epochs with 5 steps each
    parts = contexts[0].split(2)[1].split(2)[1]
    assert parts.mask_seeds == contexts[0].mask_seeds[3:]
    assert parts.mixtures is not None
    assert torch.equal(parts.mixtures, mixtures[3:4])
    again = StepInputs(config, pixels, Group(), torch.device("cpu"), torch.float64).at(14)[2]
    assert again.mask_seeds == contexts[2].mask_seeds


def test_nothing_is_drawn_for_views_and_terms_that_are_off() -> None:
    config = small_config(model="d3gan", views="slice,projection,width")
    pixels = np.zeros((N, 1, 16, 16), np.uint8)
    context = StepInputs(config, pixels, Group(), torch.device("cpu"), torch.float64).at(0)[2]
    assert context == StepContext(0)


@pytest.mark.parametrize("model", ["gman", "hgan-mean", "microbatchgan", "duelgan"])
def test_a_run_is_evaluated_sampled_and_exported(model: str, tiny: Tiny, network: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = dict(evaluate_every=2, num_samples=20, features=str(network), metrics="fid")
    run = train(tiny(model=model, batch_size=8, max_steps=2, log_every=1, **changes)).run
    assert (run / "evaluations.jsonl").read_text()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(("penalties" in line) == (model in ("microbatchgan", "duelgan")) for line in lines)
    assert d3gan.sample(d3gan.load_generator(run), num=3).shape == (3, 3, 16, 16)
    words = ["evaluate", str(run), "--num-samples=20", f"--features={network}", "--metrics=fid"]
    assert main(words) == 0
    assert main(["export", str(run), f"--out={tmp_path / 'g.safetensors'}"]) == 0


# --- Dropout --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighting", sorted(WEIGHTINGS))
def test_the_global_random_state_neither_changes_nor_matters(weighting: str) -> None:
    results = []
    for global_seed in (0, 1):
        gan = small_gan(views="dropout", weighting=weighting)
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        real_images, latents, context = batch(0)
        uniforms = torch.full((4,), 0.3)
        result = train_step(gan, real_images, latents, StepContext(0, uniforms, mask_seeds=context.mask_seeds))
        assert torch.equal(torch.get_rng_state(), before)
        results.append(result.generator_loss)
    assert torch.equal(*results)


def test_masks_differ_between_phases_and_discriminators_and_repeat_within_a_phase() -> None:
    gan = small_gan(views="dropout")
    for member in gan.discriminators.members:
        member.load_state_dict(gan.discriminators.members[0].state_dict())
    _, latents, context = batch(0)
    fakes = gan.generator(latents).detach()
    losses, _ = generator_phase(gan, fakes, fakes, None, context)
    again, _ = generator_phase(gan, fakes, fakes, None, context)
    assert torch.equal(losses, again)
    assert len({round(loss, 12) for loss in losses.tolist()}) == 3
    for k in range(3):
        alone, _ = generator_phase(gan, fakes, fakes, torch.tensor(k), context)
        assert alone.item() == losses[k].item(), "a rule that calls one drops the same"
    other, _ = generator_phase(gan, fakes, fakes, None, StepContext(mask_seeds=(1,)))
    assert not torch.equal(losses, other)


def test_a_bandit_without_progress_is_not_rewarded_by_other_masks() -> None:
    gan = small_gan(views="dropout", weighting="bandit", lr=0.0, lr_d=3e-3)
    real_images, latents, context = batch(0)
    train_step(gan, real_images, latents, StepContext(mask_seeds=context.mask_seeds))
    assert gan.weighting.get_buffer("Q").abs().max() < 1e-12


@pytest.mark.parametrize("views", ["slice", "dropout"])
def test_diagnostics_judge_all_images_and_drop_nothing(views: str) -> None:
    plain, gan = small_gan(views="same"), small_gan(views=views)
    real_images, latents, _ = batch(0)
    assert diagnose(plain, real_images, latents, N) == diagnose(gan, real_images, latents, N)


# --- Duels ----------------------------------------------------------------------------------------------------------


def test_duel_weights_follow_the_parabola_of_the_program() -> None:
    for percent in (0, 10, 50, 99):
        found = parabola(torch.tensor(percent / 100, dtype=torch.float64)).item()
        assert found == pytest.approx(-4e-4 * percent * (percent - 100), abs=1e-12)


@pytest.mark.parametrize("count", [6, 7])
def test_mixtures_are_half_real_and_half_fake_without_repetition(count: int) -> None:
    mixtures = draw_mixtures(count, torch.Generator().manual_seed(0))
    assert mixtures.shape == (3, 6)
    for rows in mixtures.tolist():
        assert len(set(rows)) == 6
        assert sum(row < count for row in rows) == 3
    assert any([row < count for row in rows] != [True] * 3 + [False] * 3 for rows in mixtures.tolist()), "shuffled"
    assert len({tuple(rows) for rows in mixtures.tolist()}) == 3


def test_a_duel_rewards_agreement_on_the_same_images_alone() -> None:
    """By hand, of logits that are the images themselves."""
    first, second = torch.nn.Flatten(0), torch.nn.Flatten(0)
    images = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64).requires_grad_()
    mixtures = torch.tensor([[0, 1], [2, 3], [1, 0]])
    alpha = torch.tensor(0.25, dtype=torch.float64)
    found = duel([first, second], images[:, None], mixtures, alpha)

    def cross_entropy(a: list[float], b: list[float]) -> float:
        pairs = zip(a, b, strict=True)
        return math.fsum(math.log1p(math.exp(-x)) / (1 + math.exp(-y)) for x, y in pairs) / len(a)

    expected = cross_entropy([1, -2], [1, -2]) - 0.25 * cross_entropy([0.5, 3], [-2, 1])
    assert found.tolist() == pytest.approx([expected] * 2, rel=1e-12)
