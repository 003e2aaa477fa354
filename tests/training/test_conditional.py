"""Networks with classes in the step: against plain computations, and where labels come from and go to."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from d3gan import TrainConfig
from d3gan.training.diagnostics import diagnose
from d3gan.training.inputs import StepInputs
from d3gan.training.setup import build_gan
from d3gan.training.step import GAN, StepContext, discriminator_losses, train_step
from tests.training.test_acceleration import plain, recorded, weights
from tests.training.test_step import BETA1, BETA2, LR, ReferenceAdam

N, CLASSES, CPU = 6, 4, torch.device("cpu")


def small_config(K: int, **changes: Any) -> TrainConfig:
    settings = dict(image_size=16, nz=5, ngf=3, ndf=4, nc=1, lr=LR, beta1=BETA1, beta2=BETA2, discriminators=K)
    settings |= dict(conditional=True, batch_size=N)
    return TrainConfig(**(settings | changes))


def small_gan(K: int, **changes: Any) -> GAN:
    return build_gan(small_config(K, **changes), CPU, "float64", classes=CLASSES)


def batch(step: int) -> tuple[Tensor, Tensor, StepContext]:
    random = torch.Generator().manual_seed(100 + step)
    reals = torch.rand(N, 1, 16, 16, generator=random, dtype=torch.float64) * 2 - 1
    latents = torch.randn(N, 5, generator=random, dtype=torch.float64)
    # Class 3 is in neither batch.
    real_labels, fake_labels = (torch.randint(CLASSES - 1, (N,), generator=random) for _ in range(2))
    mixing = torch.rand(N, generator=random, dtype=torch.float64)
    mixtures = torch.randint(2 * N, (1, 3, N), generator=random)
    progress = torch.tensor(0.3, dtype=torch.float64)
    return reals, latents, StepContext(
        step, None, mixing, mixtures, progress, real_labels=real_labels, fake_labels=fake_labels
    )  # fmt: skip


# The reference: every sum over classes as a loop over the images, in float64.


def normalized(x: Tensor) -> Tensor:
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    return (x - mean) / torch.sqrt(((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True) + 1e-5)


def reference_generator(w: list[Tensor], latents: Tensor, labels: list[int]) -> Tensor:
    x = functional.conv_transpose2d(latents[:, :, None, None], w[0], stride=1)
    for i in range(3):
        x = normalized(x)
        x = torch.stack([
            x[n] * w[3 * i + 1][y][:, None, None] + w[3 * i + 2][y][:, None, None] for n, y in enumerate(labels)
        ])  # fmt: skip
        x = x * torch.tanh(torch.log1p(torch.exp(x)))  # Mish
        x = functional.conv_transpose2d(x, w[3 * i + 3], stride=2, padding=1)
    return torch.tanh(x)


def reference_logits(w: list[Tensor], images: Tensor, labels: list[int]) -> Tensor:
    x = functional.conv2d(images, w[0], stride=2, padding=1)
    x = torch.where(x > 0, x, 0.2 * x)
    for i in range(2):
        x = functional.conv2d(x, w[3 * i + 1], stride=2, padding=1)
        x = normalized(x) * w[3 * i + 2][None, :, None, None] + w[3 * i + 3][None, :, None, None]
        x = torch.where(x > 0, x, 0.2 * x)
    logits = functional.conv2d(x, w[7])[:, 0, 0, 0]
    return torch.stack([logits[n] + (w[8][y] * x[n].sum(dim=(1, 2))).sum() for n, y in enumerate(labels)])


class Reference:
    def __init__(self, gan: GAN, rule: str, sliced: bool):
        self.rule, self.sliced = rule, sliced
        self.generator = [p.detach().clone().requires_grad_() for p in gan.generator.parameters()]
        self.members = [
            [p.detach().clone().requires_grad_() for p in member.parameters()]
            for member in gan.discriminators.members
        ]
        self.adams = [ReferenceAdam(w) for w in (self.generator, *self.members)]

    def logits(self, k: int, images: Tensor, labels: list[int]) -> Tensor:
        own, K = slice(None), len(self.members)
        if self.sliced:
            own = slice(k * N // K, (k + 1) * N // K)
        return reference_logits(self.members[k], images[own], labels[own])

    def step(self, reals: Tensor, latents: Tensor, context: StepContext) -> list[float]:
        assert context.real_labels is not None
        assert context.fake_labels is not None
        of_reals, of_fakes = context.real_labels.tolist(), context.fake_labels.tolist()
        fakes, K = reference_generator(self.generator, latents, of_fakes), len(self.members)
        real_losses = [functional.softplus(-self.logits(k, reals, of_reals)).mean() for k in range(K)]
        fake_losses = [functional.softplus(self.logits(k, fakes.detach(), of_fakes)).mean() for k in range(K)]
        for k, w in enumerate(self.members):
            self.adams[1 + k].step(torch.autograd.grad(real_losses[k] + fake_losses[k], w))
        losses = [(real_losses[k] + fake_losses[(k + 1) % K]).item() for k in range(K)]
        chosen = [losses.index(max(losses))] if self.rule == "argmax" else list(range(K))
        of_generator = [functional.softplus(-self.logits(k, fakes, of_fakes)).mean() for k in chosen]
        self.adams[0].step(torch.autograd.grad(sum(of_generator) / len(chosen), self.generator))  # type: ignore[arg-type]
        return losses


@pytest.mark.parametrize(
    ("K", "rule", "views"),
    [(1, "argmax", "same"), (2, "argmax", "same"), (2, "mean", "same"), (3, "argmax", "slice")],
)
def test_steps_equal_the_reference(K: int, rule: str, views: str) -> None:
    gan = small_gan(K, weighting=rule, views=views, activation="mish")
    reference = Reference(gan, rule, views == "slice")
    for step in range(5):
        inputs = batch(step)
        losses = reference.step(*inputs)
        torch.testing.assert_close(train_step(gan, *inputs).losses.tolist(), losses, rtol=1e-9, atol=1e-9)
    ours = [*gan.generator.parameters(), *gan.discriminators.parameters()]
    theirs = [*reference.generator, *(w for member in reference.members for w in member)]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_only_the_tables_rows_of_classes_in_the_batch_learn() -> None:
    gan = small_gan(1, weighting="mean")
    before = [p.detach().clone() for p in (*gan.generator.parameters(), *gan.discriminators.parameters())]
    reals, latents, context = batch(0)
    present = sorted(set(context.fake_labels.tolist()))  # type: ignore[union-attr]
    of_both = sorted({*present, *context.real_labels.tolist()})  # type: ignore[union-attr]
    train_step(gan, reals, latents, context)
    tables = 0
    names = [*dict(gan.generator.named_parameters()), *dict(gan.discriminators.named_parameters())]
    after = (*gan.generator.parameters(), *gan.discriminators.parameters())
    for name, was, now in zip(names, before, after, strict=True):
        if now.shape[0] == CLASSES and now.ndim == 2:
            changed = (was != now).any(dim=1).nonzero().flatten().tolist()
            assert changed == (of_both if "projection" in name else present), name
            tables += 1
    assert tables == 7
    assert 3 not in of_both


@pytest.mark.parametrize("views", ["same", "slice"])
def test_penalties_are_of_each_image_with_its_own_label(views: str) -> None:
    gan = small_gan(2, penalty="gp:2,r1:3,r2:5", discriminator_norm="none", views=views)
    with torch.no_grad():
        for parameter in gan.discriminators.parameters():
            parameter.mul_(15)  # or the gradients are too small to tell labels apart
    reals, _, context = batch(0)
    fakes = batch(1)[0]
    _, measured = discriminator_losses(gan, reals, fakes, context)
    assert context.real_labels is not None
    assert context.fake_labels is not None
    assert context.mixing is not None
    for k, member in enumerate(gan.discriminators.members):
        own = slice(3 * k, 3 * k + 3) if views == "slice" else slice(None)
        x, y, z, v = reals[own], context.real_labels[own], fakes[own], context.fake_labels[own]
        mixed = context.mixing[own, None, None, None] * x + (1 - context.mixing[own, None, None, None]) * z

        def squares(images: Tensor, labels: Tensor, member: torch.nn.Module = member) -> Tensor:
            images = images.clone().requires_grad_()
            gradients = [torch.autograd.grad(member(images, labels)[n], images)[0][n] for n in range(len(images))]
            return torch.stack([(each**2).sum() for each in gradients])

        expected = 2 * ((squares(mixed, y).sqrt() - 1) ** 2).mean()
        expected += 3 * squares(x, y).mean() / 2 + 5 * squares(z, v).mean() / 2
        torch.testing.assert_close(measured["penalties"][k], expected)


def test_terms_are_of_each_image_with_its_own_label() -> None:
    reals, _, context = batch(0)
    fakes = batch(1)[0]
    y, v, p = context.real_labels, context.fake_labels, 0.3
    assert y is not None
    assert v is not None
    assert context.mixtures is not None
    sigmoid, softplus = torch.sigmoid, functional.softplus

    gan = small_gan(2, views="slice", microbatch_alpha=0.5, weighting="sum", discriminator_norm="none")
    _, measured = discriminator_losses(gan, reals, fakes, context)
    for k, member in enumerate(gan.discriminators.members):
        others = slice(3, 6) if k == 0 else slice(0, 3)
        expected = 0.5 * p * softplus(-member(fakes[others], v[others])).mean()
        torch.testing.assert_close(measured["penalties"][k], expected)

    gan = small_gan(2, duel_beta=0.5, duel_alpha=0.4, discriminator_norm="none")
    _, measured = discriminator_losses(gan, reals, fakes, context)
    images, labels, (u1, u2, u3) = torch.cat([reals, fakes]), torch.cat([y, v]), context.mixtures[0]
    one, other = gan.discriminators.members
    for k, (mine, theirs) in enumerate(((one, other), (other, one))):
        agree = (sigmoid(theirs(images[u1], labels[u1])) * softplus(-mine(images[u1], labels[u1]))).mean()
        unrelated = (sigmoid(theirs(images[u3], labels[u3])) * softplus(-mine(images[u2], labels[u2]))).mean()
        expected = 0.5 * 4 * p * (1 - p) * (agree - 0.4 * 4 * p * (1 - p) * unrelated)
        torch.testing.assert_close(measured["penalties"][k], expected)


def test_diagnostics_judge_each_image_with_its_own_label() -> None:
    gan = small_gan(2, discriminator_norm="none")
    reals, latents, context = batch(0)
    assert context.fake_labels is not None
    found = diagnose(gan, reals, latents, N, context)
    with torch.no_grad():
        fakes = gan.generator(latents, context.fake_labels)
        for k, member in enumerate(gan.discriminators.members):
            real, fake = member(reals, context.real_labels), member(fakes, context.fake_labels)
            expected = np.mean([float(a > b) for a in real for b in fake])
            assert found["separation"][k] == pytest.approx(expected)


@pytest.mark.parametrize("views", ["same", "slice", "width"])
def test_the_device_selects_what_the_host_selects(views: str) -> None:
    discriminators = small_gan(3, views=views).discriminators
    images, _, context = batch(0)
    for others in (False, True) if views == "slice" else (False,):
        inputs = discriminators.inputs(images, context.real_labels, others=others)
        for k in range(3):
            by_host = discriminators.frozen_logits(images, torch.tensor(k), labels=context.real_labels, others=others)
            torch.testing.assert_close(discriminators.gathered_logits(inputs, torch.tensor(k)), by_host)


def test_a_recorded_step_sees_the_labels_of_each_step() -> None:
    one, other = small_gan(2), small_gan(2)
    for gan, do_step in ((one, plain(one)), (other, recorded(other))):
        for step in range(3):
            do_step(*batch(step))
        del gan
    for a, b in zip(weights(one), weights(other), strict=True):
        assert torch.equal(a, b)


# Where labels come from.


def inputs_of(config: TrainConfig, rank: int = 0, processes: int = 1) -> StepInputs:
    """120 images whose every pixel is 50 times their label; nine of ten are of class 0."""
    labels = np.where(np.arange(120) % 10 == 0, 1 + np.arange(120) // 10 % 2, 0)
    images = np.broadcast_to(50 * labels[:, None, None, None], (120, 1, 16, 16)).astype(np.uint8)
    group: Any = SimpleNamespace(rank=rank, world_size=processes)
    return StepInputs(config, images, group, CPU, torch.float64, labels)


@pytest.mark.parametrize("changes", [{}, {"d_steps": 2, "grad_accum_steps": 2}, {"model": "md-gan"}], ids=str)
def test_real_labels_are_those_of_the_real_images(changes: dict[str, Any]) -> None:
    inputs, seen = inputs_of(small_config(2, **changes)), set()
    for step in range(7):
        images, latents, context = inputs.at(step)
        assert context.real_labels is not None
        assert context.fake_labels is not None
        assert len(context.real_labels) == len(context.fake_labels) == len(latents)
        values = ((images[:, 0, 0, 0] + 1) * 127.5 / 50).round().long()
        assert values.tolist() == context.real_labels.tolist()
        seen |= {*values.tolist()}
    assert seen == {0, 1, 2}


def test_fake_labels_have_the_datas_shares_and_no_other_stream_changes() -> None:
    config, without = small_config(2, batch_size=60), small_config(2, batch_size=60, conditional=False)
    inputs = inputs_of(config)
    drawn = [inputs.at(step)[2].fake_labels for step in range(50)]
    counts = np.bincount(torch.cat(drawn), minlength=3)  # type: ignore[arg-type]
    assert counts.sum() == 3000
    assert abs(counts[0] - 2700) < 100
    assert abs(counts[1] - 150) < 60
    assert counts[2] > 0
    assert not torch.equal(drawn[0], drawn[1])  # type: ignore[arg-type]
    plain_inputs = StepInputs(without, np.zeros((120, 1, 16, 16), np.uint8), small_group(), CPU, torch.float64)
    _, latents, context = plain_inputs.at(3)
    assert context.real_labels is None
    assert context.fake_labels is None
    assert torch.equal(latents, inputs.at(3)[1])


def small_group() -> Any:
    return SimpleNamespace(rank=0, world_size=1)


def test_processes_draw_what_one_process_draws_for_as_many_batches() -> None:
    one = inputs_of(small_config(2, grad_accum_steps=2)).at(4)[2].fake_labels
    two = [inputs_of(small_config(2), rank, 2).at(4)[2].fake_labels for rank in (0, 1)]
    assert torch.equal(one, torch.cat(two))  # type: ignore[arg-type]
