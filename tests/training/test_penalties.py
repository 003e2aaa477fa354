"""Every penalty against its formula, the derivatives of its gradients, and what a step makes of it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from d3gan import TrainConfig
from d3gan.models.dcgan import Discriminator, initialize
from d3gan.models.matmul_convolution import down_conv_by_matmul, use_matmul
from d3gan.randomness import stream
from d3gan.training.penalties import GRADIENT_PENALTIES, Penalties, Penalty, gradient_penalty, r1, r2
from d3gan.training.setup import build_gan
from d3gan.training.step import GAN, StepContext, discriminator_losses, train_step

N = 5


class Linear(nn.Module):
    """D(x) = w · x + b."""

    def __init__(self, w: Tensor, b: float = 0.3):
        super().__init__()
        self.w, self.b = nn.Parameter(w), b

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) * self.w).sum(dim=1) + self.b


class Quadratic(nn.Module):
    """D(x) = a ‖x‖² / 2, whose gradient is a x."""

    def __init__(self, a: float):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        return self.a * images.flatten(1).square().sum(dim=1) / 2


def images(seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(N, 2, 3, 3, generator=random, dtype=torch.float64) * 2 - 1


def vector(seed: int) -> Tensor:
    return torch.randn(18, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def apply(
    penalties: list[Penalty], discriminators: list[nn.Module], step: int = 0, mixing: Tensor | None = None
) -> Tensor:
    real, fake = images(0), images(1)
    module = Penalties(penalties, len(discriminators), 0).double()
    logits = [torch.stack([each(batch) for each in discriminators]) for batch in (real, fake)]
    penalties_of_each: Tensor = module(
        discriminators, [(real, fake, mixing)] * len(discriminators), (logits[0], logits[1]), step
    )
    return penalties_of_each


@pytest.mark.parametrize("name", ["r1", "r2"])
def test_r1_and_r2_of_a_linear_discriminator_are_half_gamma_times_its_squared_length(name: str) -> None:
    members = [Linear(vector(seed)) for seed in range(3)]
    found = apply([Penalty(name, 0.6, 1)], list(members))
    for member, penalty in zip(members, found, strict=True):
        w = member.w.tolist()
        assert penalty.item() == pytest.approx(0.3 * math.fsum(x * x for x in w), rel=1e-13)
        (gradient,) = torch.autograd.grad(penalty, member.w, retain_graph=True)
        torch.testing.assert_close(gradient, 0.6 * member.w.detach())


def test_r1_looks_at_the_real_images_and_r2_at_the_fake_ones() -> None:
    member = Quadratic(1.7)
    for name, seed in (("r1", 0), ("r2", 1)):
        squares = images(seed).flatten(1).square().sum(dim=1)
        (found,) = apply([Penalty(name, 0.6, 1)], [member])
        assert found.item() == pytest.approx(0.3 * 1.7**2 * squares.mean().item(), rel=1e-13)


def test_the_gradient_penalty_of_known_mixtures() -> None:
    mixing = torch.tensor([0.0, 0.25, 0.5, 0.9, 0.99], dtype=torch.float64)
    real, fake = images(0).flatten(1), images(1).flatten(1)
    lengths = [
        math.sqrt(sum((e * x + (1 - e) * y) ** 2 for x, y in zip(*rows, strict=True)))
        for e, rows in zip(mixing.tolist(), zip(real.tolist(), fake.tolist(), strict=True), strict=True)
    ]
    expected = math.fsum((1.7 * length - 1) ** 2 for length in lengths) / N
    (found,) = apply([Penalty("gp", 10.0, 1)], [Quadratic(1.7)], mixing=mixing)
    assert found.item() == pytest.approx(10 * expected, rel=1e-13)
    w = vector(0)
    (found,) = apply([Penalty("gp", 10.0, 1)], [Linear(w)], mixing=mixing)
    assert found.item() == pytest.approx(10 * (w.norm().item() - 1) ** 2, rel=1e-13)


def test_penalties_add_up_and_an_interval_multiplies() -> None:
    members: list[nn.Module] = [Quadratic(1.7), Quadratic(0.4)]
    one, two = apply([Penalty("r1", 0.6, 1)], members), apply([Penalty("r2", 0.2, 1)], members)
    both = [Penalty("r1", 0.6, 3), Penalty("r2", 0.2, 2)]
    expected = {0: 3 * one + 2 * two, 1: 0 * one, 2: 2 * two, 3: 3 * one, 4: 2 * two, 6: 3 * one + 2 * two}
    for step, penalty in expected.items():
        torch.testing.assert_close(apply(both, members, step), penalty)


def test_no_penalties_are_false() -> None:
    none = Penalties([], 2, 0)
    assert not none
    assert not none.remembers
    assert not none.mixes
    assert not none.state_dict()
    assert Penalties([Penalty("gp", 1.0, 1)], 2, 0).mixes


# --- LeCam ----------------------------------------------------------------------------------------------------------


def lecam_by_hand(real: list[float], fake: list[float], anchor_real: float, anchor_fake: float) -> float:
    of_real = math.fsum(max(0.0, each - anchor_fake) ** 2 for each in real) / len(real)
    of_fake = math.fsum(max(0.0, anchor_real - each) ** 2 for each in fake) / len(fake)
    return of_real + of_fake


@pytest.mark.parametrize("start", [0, 1, 3])
def test_lecam_over_several_steps(start: int) -> None:
    penalties = Penalties([Penalty("lecam", 0.3, 1)], 2, start).double()
    random = torch.Generator().manual_seed(start)
    anchors = [[0.0, 0.0], [0.0, 0.0]]  # of discriminator k: real, fake
    for step in range(6):
        real, fake = (torch.randn(2, N, generator=random, dtype=torch.float64) + shift for shift in (0.5, -0.5))
        real.requires_grad_()
        found = penalties([nn.Identity()] * 2, [(images(0), images(1), None, None, None)] * 2, (real, fake), step)
        expected = [
            0.3 * lecam_by_hand(real[k].tolist(), fake[k].tolist(), *anchors[k]) * (step >= start) for k in range(2)
        ]
        assert found.tolist() == pytest.approx(expected, rel=1e-13)
        (gradient,) = torch.autograd.grad(found.sum(), real)
        assert (gradient.abs().sum().item() > 0) == (step >= start)
        # Two processes would observe the mean of their logits.
        penalties.observe(real.detach().mean(dim=1), fake.mean(dim=1))
        decay = 0.0 if step < start else 0.99
        for k in range(2):
            for i, logits in enumerate((real, fake)):
                anchors[k][i] = decay * anchors[k][i] + (1 - decay) * logits[k].mean().item()
        assert penalties.real_anchor.tolist() == pytest.approx([a[0] for a in anchors], rel=1e-13)
        assert penalties.fake_anchor.tolist() == pytest.approx([a[1] for a in anchors], rel=1e-13)


def test_lecams_anchors_are_those_of_the_steps_before() -> None:
    gan = small_gan("lecam:0.5", K=2, lecam_start=2)
    real_anchor = fake_anchor = torch.zeros(2, dtype=torch.float64)
    for step in range(5):
        real_images, latents = batch(step)
        with torch.no_grad():
            buffers = {name: buffer.clone() for name, buffer in gan.generator.named_buffers()}
            fakes = torch.func.functional_call(gan.generator, buffers, latents)
            real, fake, _ = gan.discriminators(real_images, fakes)
        result = train_step(gan, real_images, latents, StepContext(step))
        expected = torch.zeros(2, dtype=torch.float64)
        if step >= 2:
            for k in range(2):
                terms = lecam_by_hand(
                    real[k].tolist(), fake[k].tolist(), real_anchor[k].item(), fake_anchor[k].item()
                )
                expected[k] = 0.5 * terms
            real_anchor = 0.99 * real_anchor + 0.01 * real.mean(dim=1)
            fake_anchor = 0.99 * fake_anchor + 0.01 * fake.mean(dim=1)
        else:
            real_anchor, fake_anchor = real.mean(dim=1), fake.mean(dim=1)
        torch.testing.assert_close(result.penalties, expected, rtol=1e-10, atol=1e-14)


# --- Derivatives ----------------------------------------------------------------------------------------------------


def small_discriminator() -> nn.Module:
    """Strided convolutions with biases, smooth, so that finite differences find its derivatives."""
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3, 2, 1), nn.Softplus(), nn.Conv2d(3, 2, 2, 1, 0), nn.Tanh(), nn.Flatten(), nn.Linear(2, 1)
    )
    random = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.0, 0.7, generator=random)
    return nn.Sequential(network, nn.Flatten(0)).double()


@pytest.mark.parametrize("name", sorted(GRADIENT_PENALTIES))
def test_the_penaltys_gradient_by_finite_differences(name: str) -> None:
    network = small_discriminator()
    names = [name for name, _ in network.named_parameters()]
    mixing = torch.linspace(0.1, 0.9, N, dtype=torch.float64)

    def penalty(*parameters: Tensor) -> Tensor:
        def called(images: Tensor) -> Tensor:
            values = dict(zip(names, parameters, strict=True))
            return torch.func.functional_call(network, values, images)  # type: ignore[no-any-return]

        return GRADIENT_PENALTIES[name](called, images(0), images(1), mixing)

    parameters = tuple(parameter.detach().clone().requires_grad_() for parameter in network.parameters())
    assert torch.autograd.gradcheck(penalty, parameters)


@pytest.mark.parametrize("side", [4, 8])  # position by position, and with PyTorch's convolution
def test_the_matmul_convolution_with_a_bias_may_be_differentiated_twice(side: int) -> None:
    random = torch.Generator().manual_seed(2)
    shapes = (2, 2, side, side), (3, 2, 4, 4), (3,)
    maps, weight, bias = (
        torch.randn(shape, generator=random, dtype=torch.float64, requires_grad=True) for shape in shapes
    )

    def convolved(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.tanh(down_conv_by_matmul(maps, weight) + bias[:, None, None])

    assert torch.autograd.gradcheck(convolved, (maps, weight, bias))
    assert torch.autograd.gradgradcheck(convolved, (maps, weight, bias))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_wide_network_of_matrix_products_has_the_penalty_of_convolutions(dtype: torch.dtype) -> None:
    """So wide that matrix products compute its small maps; the gradient is that of PyTorch's convolutions."""
    gradients = []
    for matmul in (False, True):
        network = Discriminator(16, 128, 1, batch_norm=False)
        initialize(network, stream(0, "wide"))
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.endswith("bias"):
                    parameter.uniform_(-0.1, 0.1, generator=stream(0, name))
        if matmul:
            use_matmul(network)
        real = torch.rand(64, 1, 16, 16, generator=stream(0, "images"))
        fake = torch.rand(64, 1, 16, 16, generator=stream(1, "images"))
        penalties = Penalties([Penalty("r1", 1.0, 1), Penalty("r2", 1.0, 1)], 1, 0)
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            logits = torch.stack([network(real)]), torch.stack([network(fake)])
            (penalty,) = penalties([network], [(real, fake, None, None, None)], logits, 0)
        assert penalty.dtype == torch.float32
        gradients.append(torch.autograd.grad(penalty, [p for n, p in network.named_parameters() if "weight" in n]))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * a.abs().max().item())


# --- In a step ------------------------------------------------------------------------------------------------------


def small_gan(penalty: str, K: int = 1, precision: Any = "float64", **changes: Any) -> GAN:
    settings: dict[str, Any] = dict(image_size=16, nz=5, ngf=3, ndf=4, nc=1, lr=2e-3, discriminators=K)
    settings |= dict(penalty=penalty, discriminator_norm="none")
    return build_gan(TrainConfig(**(settings | changes)), torch.device("cpu"), precision)


def batch(step: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(100 + step)
    real_images = torch.rand(6, 1, 16, 16, generator=random, dtype=dtype) * 2 - 1
    return real_images, torch.randn(6, 5, generator=random, dtype=dtype)


@pytest.mark.parametrize("penalty", ["r1:3", "r2:3", "gp:3", "r1:2,r2:1,gp:0.5"])
def test_the_discriminators_gradient_has_the_penaltys(penalty: str) -> None:
    """That of each discriminator is of its own loss and penalties alone, computed one by one."""
    gan, plain = small_gan(penalty, 3), small_gan(penalty, 3)
    real_images, latents = batch(0)
    mixing = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    fakes = gan.generator(latents).detach()
    objective, measured = discriminator_losses(gan, real_images, fakes, StepContext(mixing=mixing))
    objective.backward()
    functions = {"r1": r1, "r2": r2, "gp": gradient_penalty}
    for k, (member, other) in enumerate(zip(gan.discriminators.members, plain.discriminators.members, strict=True)):
        softplus = torch.nn.functional.softplus
        own = softplus(-other(real_images)).mean() + softplus(other(fakes)).mean()
        pairs = [word.split(":") for word in penalty.split(",")]
        terms = [float(weight) * functions[name](other, real_images, fakes, mixing) for name, weight in pairs]
        added = torch.stack(terms).sum()
        (own + added).backward()
        assert measured["penalties"][k].item() == pytest.approx(added.item(), rel=1e-12)
        assert added.item() > 0
        for a, b in zip(member.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-11, atol=1e-15)


def test_an_interval_is_counted_in_steps() -> None:
    gan, never = small_gan("r1:3:3", 2), small_gan("", 2)
    seen = []
    for step in range(5):
        result = train_step(gan, *batch(step), StepContext(step))
        assert result.penalties is not None
        seen.append(result.penalties.min().item() > 0)
    assert seen == [True, False, False, True, False]
    assert train_step(never, *batch(0)).penalties is None


@pytest.mark.parametrize("name", ["r1", "r2", "gp", "lecam"])
def test_penalties_are_float32_under_bf16(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"lecam_start": 0}
    coarse, fine = small_gan(name, 2, "bf16", **changes), small_gan(name, 2, "float32", **changes)
    dtypes = []

    def noting(module: nn.Module, _: Any, output: Tensor) -> None:
        dtypes.append(output.dtype)

    for layer in coarse.discriminators.members[0].modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(noting)
    real_images, latents = batch(0, torch.float32)
    mixing = torch.linspace(0.1, 0.9, 6)
    with coarse.autocast():
        fakes = coarse.generator(latents).detach()
    assert fakes.dtype == torch.bfloat16
    penalties = [
        discriminator_losses(gan, real_images, of_gan, StepContext(mixing=mixing))[1]["penalties"]
        for gan, of_gan in ((coarse, fakes), (fine, fakes.float()))
    ]
    assert penalties[0].dtype == torch.float32
    # LeCam is of logits that bf16 computed; the others call the networks again, in float32.
    if name == "lecam":
        torch.testing.assert_close(penalties[0], penalties[1], rtol=2e-2, atol=1e-4)
        assert set(dtypes) == {torch.bfloat16}
    else:
        torch.testing.assert_close(penalties[0], penalties[1], rtol=1e-5, atol=1e-9)
        assert dtypes == [torch.bfloat16] * 2 * (len(dtypes) // 3) + [torch.float32] * (len(dtypes) // 3)


def test_lecams_anchors_are_float32_means_under_bf16() -> None:
    gan = small_gan("lecam", 2, "bf16")
    real_images, latents = batch(0, torch.float32)
    with torch.no_grad(), gan.autocast():
        buffers = {name: buffer.clone() for name, buffer in gan.generator.named_buffers()}
        fakes = torch.func.functional_call(gan.generator, buffers, latents)
        real, fake, _ = gan.discriminators(real_images, fakes)
    assert real.dtype == torch.bfloat16
    train_step(gan, real_images, latents)
    for name, logits in (("real_anchor", real), ("fake_anchor", fake)):
        anchor = gan.penalties.get_buffer(name)
        assert anchor.dtype == torch.float32
        torch.testing.assert_close(anchor, logits.float().mean(dim=1), rtol=1e-5, atol=1e-9)
