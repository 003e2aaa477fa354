"""The step against an independent computation, and what each phase may and may not touch."""

import dataclasses
import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from d3gan import TrainConfig
from d3gan.training.losses import LOSSES, PAIRINGS, fake_loss, real_loss
from d3gan.training.setup import build_gan
from d3gan.training.step import GAN, StepContext, StepResult, generator_phase, train_step, update_discriminators
from d3gan.training.weighting import WEIGHTINGS

N = 6
LR, BETA1, BETA2 = 3e-3, 0.4, 0.95


def small_gan(K: int, precision: Any = "float64", **changes: Any) -> GAN:
    settings = dict(image_size=16, nz=5, ngf=3, ndf=4, nc=1, lr=LR, beta1=BETA1, beta2=BETA2, discriminators=K)
    return build_gan(TrainConfig(**(settings | changes)), torch.device("cpu"), precision)


def batch(step: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(100 + step)
    real_images = torch.rand(N, 1, 16, 16, generator=random, dtype=dtype) * 2 - 1
    return real_images, torch.randn(N, 5, generator=random, dtype=dtype)


# --- The reference: the published program's order of operations, in float64, with everything spelt out. -------------


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5) * weight[None, :, None, None] + bias[None, :, None, None]


def reference_generator(weights: list[Tensor], latents: Tensor) -> Tensor:
    x = functional.conv_transpose2d(latents[:, :, None, None], weights[0], stride=1)
    for i in range(3):
        x = batch_norm(x, weights[3 * i + 1], weights[3 * i + 2])
        x = x * torch.tanh(torch.log1p(torch.exp(x)))  # Mish
        x = functional.conv_transpose2d(x, weights[3 * i + 3], stride=2, padding=1)
    return torch.tanh(x)


def reference_discriminator(weights: list[Tensor], images: Tensor) -> Tensor:
    """Probabilities of "real" (N,)."""
    x = functional.conv2d(images, weights[0], stride=2, padding=1)
    x = torch.where(x > 0, x, 0.2 * x)
    for i in range(2):
        x = functional.conv2d(x, weights[3 * i + 1], stride=2, padding=1)
        x = batch_norm(x, weights[3 * i + 2], weights[3 * i + 3])
        x = torch.where(x > 0, x, 0.2 * x)
    return 1 / (1 + torch.exp(-functional.conv2d(x, weights[7])[:, 0, 0, 0]))


class ReferenceAdam:
    """Kingma and Ba, arXiv:1412.6980, algorithm 1."""

    def __init__(self, weights: list[Tensor]):
        self.weights, self.t = weights, 0
        self.m = [torch.zeros_like(w) for w in weights]
        self.v = [torch.zeros_like(w) for w in weights]

    def step(self, gradients: Any) -> None:
        self.t += 1
        for w, g, m, v in zip(self.weights, gradients, self.m, self.v, strict=True):
            m.copy_(BETA1 * m + (1 - BETA1) * g)
            v.copy_(BETA2 * v + (1 - BETA2) * g**2)
            corrected = m / (1 - BETA1**self.t), v / (1 - BETA2**self.t)
            w.data -= LR * corrected[0] / (torch.sqrt(corrected[1]) + 1e-8)


class Reference:
    def __init__(self, gan: GAN):
        def copies(network: torch.nn.Module) -> list[Tensor]:
            return [p.detach().clone().requires_grad_() for p in network.parameters()]

        self.generator = copies(gan.generator)
        self.discriminators = [copies(member) for member in gan.discriminators.members]
        self.generator_adam = ReferenceAdam(self.generator)
        self.adams = [ReferenceAdam(weights) for weights in self.discriminators]

    def step(self, real_images: Tensor, latents: Tensor) -> tuple[list[float], int, float]:
        fake_images = reference_generator(self.generator, latents)
        K = len(self.discriminators)
        real_losses, fake_losses = [], []
        for weights in self.discriminators:
            real_losses.append(-torch.log(reference_discriminator(weights, real_images)).mean())
            fake_losses.append(-torch.log(1 - reference_discriminator(weights, fake_images.detach())).mean())
        for k, weights in enumerate(self.discriminators):
            own = real_losses[k] + fake_losses[k]  # each discriminator's gradient comes from its own two errors
            self.adams[k].step(torch.autograd.grad(own, weights))
        errors = [(real_losses[k] + fake_losses[(k + 1) % K]).item() for k in range(K)]
        selected = errors.index(max(errors))
        error = -torch.log(reference_discriminator(self.discriminators[selected], fake_images)).mean()
        self.generator_adam.step(torch.autograd.grad(error, self.generator))
        return errors, selected, error.item()


@pytest.mark.parametrize("K", [1, 2, 3])
def test_six_steps_equal_the_reference(K: int) -> None:
    gan = small_gan(K)
    reference = Reference(gan)
    chosen = set()
    for step in range(6):
        result = train_step(gan, *batch(step))
        losses, selected, generator_loss = reference.step(*batch(step))
        assert result.losses.tolist() == pytest.approx(losses, rel=1e-9)
        assert result.selected.item() == selected
        assert result.generator_loss.item() == pytest.approx(generator_loss, rel=1e-9)
        chosen.add(selected)
    networks = [gan.generator, *gan.discriminators.members]
    for network, weights in zip(networks, [reference.generator, *reference.discriminators], strict=True):
        for parameter, expected in zip(network.parameters(), weights, strict=True):
            torch.testing.assert_close(parameter.detach(), expected.detach(), rtol=1e-9, atol=1e-9)
    assert K == 1 or len(chosen) > 1, "the steps must not all select the same discriminator, or selection is untested"


def test_running_statistics_of_the_generator_see_each_fake_batch_once() -> None:
    gan = small_gan(2)
    latents = batch(0)[1]
    hidden = gan.generator.get_submodule("layers.0")(latents[:, :, None, None])
    expected = 0.1 * hidden.mean(dim=(0, 2, 3))  # momentum 0.1, from running mean 0
    train_step(gan, *batch(0))
    state = gan.generator.state_dict()
    torch.testing.assert_close(state["layers.1.running_mean"], expected.detach())
    assert state["layers.1.num_batches_tracked"] == 1


def test_the_swap_changes_the_selection_and_no_gradient() -> None:
    gradients, selections = [], []
    for pairing in ("own", "swapped"):
        gan = small_gan(2, pairing=pairing)
        real_images, latents = batch(0)
        fake_images = gan.generator(latents)
        measured = update_discriminators(gan, real_images, fake_images.detach())
        gradients.append([p.grad.clone() for p in gan.discriminators.parameters() if p.grad is not None])
        paired = gan.pairing(torch.tensor([2.0, 1.0])) + torch.tensor([0.5, 0.0])
        selected = gan.weighting.select(paired, None)
        assert selected is not None
        selections.append(selected.item())
        assert len(gradients[-1]) == len(list(gan.discriminators.parameters()))
        assert measured["real_losses"].shape == measured["fake_losses"].shape == (2,)
    for own, swapped in zip(*gradients, strict=True):
        torch.testing.assert_close(own, swapped, rtol=1e-12, atol=1e-14)
    assert selections == [0, 1]


@pytest.mark.parametrize("selected", [True, False])
@pytest.mark.parametrize("K", [1, 3])
def test_discriminators_take_no_gradient_in_the_generator_phase(K: int, selected: bool) -> None:
    gan = small_gan(K)
    before = [p.detach().clone() for p in gan.discriminators.parameters()]
    real_images, latents = batch(0)
    generator_phase(gan, gan.generator(latents), real_images, torch.tensor(K - 1) if selected else None)[
        0
    ].sum().backward()
    assert all(p.grad is None for p in gan.discriminators.parameters())
    assert all(p.grad is not None for p in gan.generator.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, gan.discriminators.parameters(), strict=True))


def test_the_generator_phase_uses_the_selected_discriminator_alone() -> None:
    gan = small_gan(3)
    images = batch(0)[0]
    for k in range(3):
        torch.testing.assert_close(
            gan.discriminators.frozen_logits(images, torch.tensor(k)), gan.discriminators.members[k](images)
        )
        gathered = gan.discriminators.selected_state(torch.tensor(k))
        for name, parameter in gan.discriminators.members[k].named_parameters():
            assert torch.equal(gathered[name], parameter)


def test_the_generator_loss_is_that_of_the_updated_discriminator() -> None:
    gan = small_gan(2)
    real_images, latents = batch(0)
    fake_images = gan.generator(latents)
    before = gan.discriminators.frozen_logits(fake_images, torch.tensor(0)).detach()
    result = train_step(gan, real_images, latents)
    after = gan.discriminators.frozen_logits(fake_images.detach(), result.selected).detach()
    assert result.generator_loss.item() == pytest.approx(functional.softplus(-after).mean().item())
    assert not torch.allclose(before, after)


def on_meta(gan: GAN) -> GAN:
    """The GAN on the device that has shapes and no values: whatever the host would read raises."""
    for module in gan.modules().values():
        module.to("meta")
    first, second = (torch.optim.Adam(n.parameters(), foreach=False) for n in (gan.generator, gan.discriminators))
    return dataclasses.replace(gan, generator_optimizer=first, discriminator_optimizer=second, autocast=nullcontext)


def step_on_meta(gan: GAN) -> StepResult:
    real_images, latents = (torch.cat([each] * gan.d_steps).to("meta") for each in batch(0, torch.float32))
    uniforms, mixing = torch.rand(gan.weighting.K + 1), torch.rand(len(real_images))
    mixtures, progress = torch.zeros(gan.d_steps, 3, N, dtype=torch.int64), torch.zeros(())
    uniforms, mixing, mixtures, progress = (each.to("meta") for each in (uniforms, mixing, mixtures, progress))
    draws = gan.augmentation.draws if gan.augmentation is not None else 0
    augment = torch.rand(gan.d_steps, 2, 2, N, draws, device="meta")
    context = StepContext(0, uniforms, mixing, mixtures, progress, augment=augment)
    return train_step(on_meta(gan), real_images, latents, context)


@pytest.mark.parametrize("weighting", sorted({*WEIGHTINGS} - {"mgd"}))
@pytest.mark.parametrize("pairing", sorted(PAIRINGS))
def test_the_host_reads_nothing_back(weighting: str, pairing: str) -> None:
    """The one exception is mgd, whose problem the host solves."""
    result = step_on_meta(small_gan(3, "float32", weighting=weighting, pairing=pairing))
    assert result.selected.device.type == "meta"
    with pytest.raises(RuntimeError):
        result.selected.item()


@pytest.mark.parametrize(
    "changes",
    [
        *({"loss": loss, "discriminator_norm": "spectral"} for loss in sorted(LOSSES)),
        {"loss": "d2gan", "weighting": "sum", "discriminators": 2},
        {"penalty": "gp,r1,r2,lecam", "discriminator_norm": "none"},
        {"d_steps": 2},
        *({"views": views} for views in ("slice", "projection", "width", "slice,width")),
        {"views": "slice", "microbatch_alpha": 0.5, "batch_size": 6},
        {"duel_beta": 0.5, "duel_alpha": 0.3},
        {"augment": "color,translation,cutout", "d_steps": 2},
        {"augment": "ada:blit,geom,color,filter,noise,cutout"},
    ],
)
def test_the_host_reads_nothing_back_with_other_losses_and_penalties(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which knows no meta device
    settings: dict[str, Any] = {"discriminators": 3, "pairing": "own", "batch_size": 6} | changes
    result = step_on_meta(small_gan(settings.pop("discriminators"), "float32", **settings))
    assert result.losses.device.type == "meta"


def test_equal_discriminators_select_the_lowest_index() -> None:
    gan = small_gan(3)
    first = gan.discriminators.members[0]
    for member in gan.discriminators.members:
        member.load_state_dict(first.state_dict())
    assert train_step(gan, *batch(0)).selected.item() == 0


def test_bf16_follows_float64_closely() -> None:
    """One step's errors agree to bf16's resolution (8 bits of mantissa)."""
    exact = train_step(small_gan(2, "float64"), *batch(0))
    real_images, latents = batch(0)
    coarse = train_step(small_gan(2, "bf16"), real_images.float(), latents.float())
    torch.testing.assert_close(coarse.losses.double(), exact.losses, rtol=2e-2, atol=2e-2)
    assert coarse.losses.dtype == torch.float32


def test_confident_logits_keep_a_gradient() -> None:
    """Errors come from logits: where a float32 sigmoid is exactly 0, BCE on probabilities would have none."""
    gan = small_gan(1)
    images = torch.zeros(2, 1, 16, 16, dtype=torch.float64)
    assert gan.discriminators.frozen_logits(images, torch.tensor(0)).shape == (2,)
    logits = torch.tensor([-200.0, 200.0], requires_grad=True)
    (real_loss(logits[:1]) + fake_loss(logits[1:])).backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [-1.0, 1.0]
    assert math.isclose(real_loss(torch.tensor([-200.0])).item(), 200.0)
