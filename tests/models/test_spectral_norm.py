"""Spectral normalisation: the norm, when it iterates, its gradient, and that it draws from the seed alone."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from d3gan import TrainConfig
from d3gan.models import resnet, sndcgan
from d3gan.models.dcgan import Discriminator, initialize
from d3gan.models.networks import NETWORKS
from d3gan.models.spectral_norm import FIRST_ITERATIONS, SpectralNorm, add_spectral_norm
from d3gan.randomness import stream
from d3gan.training.setup import build_gan
from d3gan.training.step import GAN, StepContext, train_step

LAYERS = 4


def small_gan(K: int, precision: Any = "float64", **changes: Any) -> GAN:
    settings: dict[str, Any] = dict(image_size=16, nz=5, ngf=3, ndf=4, nc=1, lr=2e-3, discriminators=K)
    settings |= dict(discriminator_norm="spectral")
    return build_gan(TrainConfig(**(settings | changes)), torch.device("cpu"), precision)


def batch(step: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(100 + step)
    real_images = torch.rand(6, 1, 16, 16, generator=random, dtype=dtype) * 2 - 1
    return real_images, torch.randn(6, 5, generator=random, dtype=dtype)


def norms(network: nn.Module) -> list[float]:
    """The largest singular value of each convolution's weight as it is used."""
    with torch.no_grad():
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
        return [torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in layers]


def discriminator() -> Discriminator:
    network = Discriminator(16, 4, 1, batch_norm=False)
    initialize(network, stream(0, "test"))
    return network


def test_every_used_weight_has_the_largest_singular_value_one() -> None:
    network = discriminator()
    assert max(norms(network)) < 0.9
    add_spectral_norm(network, stream(0, "spectral norm"))
    network.double()
    assert len(norms(network)) == LAYERS
    # After the first iterations about right; then as exact as one likes.
    assert norms(network) == pytest.approx([1.0] * LAYERS, abs=0.05)
    images = batch(0)[0]
    for _ in range(500):
        network(images)
    assert norms(network) == pytest.approx([1.0] * LAYERS, abs=1e-9)


def test_the_norm_finds_other_weights_too() -> None:
    network = discriminator()
    add_spectral_norm(network, stream(0, "spectral norm"))
    network.double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=stream(1, name)))
    assert max(norms(network)) > 1.3
    for _ in range(1000):
        network(batch(0)[0])
    assert norms(network) == pytest.approx([1.0] * LAYERS, abs=1e-6)


@pytest.mark.parametrize(
    ("network", "layers"),
    [
        (sndcgan.Discriminator(16, 2, 1, classes=3), 5 + 1 + 1),
        (resnet.Discriminator(32, 3, 1, classes=2), 10 + 1 + 1),
    ],
)
def test_it_reaches_every_layer_of_the_networks_that_usually_have_it(network: nn.Module, layers: int) -> None:
    """Convolutions, shortcuts, the linear layer and the table of the projection: all that have a matrix."""
    NETWORKS[type(network).__module__.rpartition(".")[2]].initialize(network, stream(0, "test"))
    add_spectral_norm(network, stream(0, "spectral norm"))
    network.double()
    size, names = (16 if layers == 7 else 32), [name for name, p in network.named_parameters() if p.ndim > 1]
    assert len(names) == layers
    assert all(name.endswith("parametrizations.weight.original") for name in names)
    images, labels = torch.randn(2, 1, size, size, dtype=torch.float64), torch.tensor([0, 1])
    for _ in range(300):
        network(images, labels)
    for name in names:
        layer: Any = network.get_submodule(name.removesuffix(".parametrizations.weight.original"))
        original = network.get_parameter(name).detach()
        exact = torch.linalg.svdvals(original.flatten(1))[0]
        assert (original / layer.weight.detach()).mean().item() == pytest.approx(exact.item(), rel=1e-9), name


def vectors(network: nn.Module, name: str = "u") -> list[Tensor]:
    return [b.clone() for key, b in network.named_buffers() if key.endswith(f".{name}")]


def iterated(matrix: Tensor, u: Tensor, times: int) -> Tensor:
    for _ in range(times):
        v = matrix.T @ u
        u = matrix @ (v / v.norm())
        u = u / u.norm()
    return u


def matrices(network: nn.Module) -> list[Tensor]:
    return [p.detach().flatten(1).clone() for name, p in network.named_parameters() if name.endswith("original")]


def assert_moved(network: nn.Module, before: list[Tensor], weights: list[Tensor], times: int) -> None:
    for u, old, matrix in zip(vectors(network), before, weights, strict=True):
        torch.testing.assert_close(u, iterated(matrix, old, times), rtol=1e-12, atol=1e-13)


def test_one_iteration_per_forward_in_training_and_none_without_gradients() -> None:
    network = discriminator()
    add_spectral_norm(network, stream(0, "spectral norm"))
    network.double()
    images = batch(0)[0]
    for times in (1, 2, 3):
        before = vectors(network)
        for _ in range(times):
            network(images)
        assert_moved(network, before, matrices(network), times)
        assert not torch.equal(vectors(network)[0], before[0])
    before = vectors(network) + vectors(network, "v")
    with torch.no_grad():
        network(images)
    assert all(torch.equal(a, b) for a, b in zip(vectors(network) + vectors(network, "v"), before, strict=True))


@pytest.mark.parametrize(("penalty", "times"), [("", 2), ("r1", 3), ("gp,r1,r2", 5)])
@pytest.mark.parametrize("weighting", ["argmax", "mean", "bandit"])
def test_a_step_iterates_in_the_discriminators_phase_alone(weighting: str, penalty: str, times: int) -> None:
    """Once for the real images, once for the fake ones, once for each penalty, with the weights before the update."""
    gan = small_gan(2, weighting=weighting, penalty=penalty)
    before = [vectors(member) for member in gan.discriminators.members]
    weights = [matrices(member) for member in gan.discriminators.members]
    train_step(gan, *batch(0), StepContext(0, mixing=torch.rand(6, dtype=torch.float64)))
    for k, member in enumerate(gan.discriminators.members):
        assert_moved(member, before[k], weights[k], times)


def test_the_first_vectors_have_been_iterated() -> None:
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    norm = SpectralNorm(weight, torch.Generator().manual_seed(2))
    first = torch.randn(4, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(norm.u, iterated(weight, first / first.norm(), FIRST_ITERATIONS))


def test_the_gradient_flows_through_sigma_with_constant_vectors() -> None:
    random = torch.Generator().manual_seed(0)
    first = torch.randn(3, 2, 2, 2, generator=random)
    norm, weight = SpectralNorm(first, random).double(), first.double().requires_grad_()
    G = torch.randn(3, 2, 2, 2, generator=random, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((norm(weight) * G).sum(), weight)
    u, v = norm.u, norm.v
    sigma = u @ weight.detach().flatten(1) @ v
    inner = (G * weight.detach()).sum()
    expected = G / sigma - inner / sigma**2 * torch.outer(u, v).view_as(G)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-13)


def test_the_selected_discriminators_vectors_are_gathered() -> None:
    gan = small_gan(3)
    images = batch(0)[0]
    for step in range(3):
        train_step(gan, *batch(step))
    for k, member in enumerate(gan.discriminators.members):
        state = gan.discriminators.selected_state(torch.tensor(k))
        assert state.keys() == member.state_dict().keys()
        assert sum(name.endswith(".u") for name in state) == LAYERS
        for name, value in member.state_dict().items():
            assert torch.equal(state[name], value), name
        # What an accelerator calls is the first member with the selected one's state.
        first = gan.discriminators.members[0]
        gathered = torch.func.functional_call(first, state, images)
        with torch.no_grad():
            torch.testing.assert_close(gathered, member(images), rtol=1e-13, atol=1e-15)
        torch.testing.assert_close(gan.discriminators.frozen_logits(images, torch.tensor(k)), gathered)
        torch.testing.assert_close(gan.discriminators.frozen_logits(images)[k], gathered)


def test_the_vectors_are_the_seeds() -> None:
    torch.manual_seed(1)
    first = small_gan(2)
    torch.manual_seed(2)
    again, other = small_gan(2), small_gan(2, seed=1)
    us = [[vectors(member) for member in gan.discriminators.members] for gan in (first, again, other)]
    for k in range(2):
        assert all(torch.equal(a, b) for a, b in zip(us[0][k], us[1][k], strict=True))
        assert not torch.equal(us[0][k][0], us[2][k][0])
    plain = small_gan(2, "float32", discriminator_norm="none").discriminators.members
    for k, network in enumerate(plain):
        add_spectral_norm(network, stream(0, "spectral norm", k))
        for a, b in zip(us[0][k], vectors(network), strict=True):
            torch.testing.assert_close(
                a, b.double(), rtol=0, atol=1e-6, msg=f"discriminator {k} has a stream of its own"
            )
    assert all(not name.endswith(".u") for name, _ in first.discriminators.named_parameters())


def test_without_spectral_norm_the_first_weights_are_the_same() -> None:
    names = [name for name, _ in small_gan(1).discriminators.named_parameters()]
    plain = small_gan(1, discriminator_norm="none").discriminators.parameters()
    normed = small_gan(1).discriminators.named_parameters()
    assert sorted(p.flatten()[:2].tolist() for p in plain) == sorted(p.flatten()[:2].tolist() for _, p in normed)
    assert sum(name.endswith("original") for name in names) == LAYERS


def test_under_bf16_the_norm_is_computed_in_float32() -> None:
    coarse, fine = small_gan(1, "bf16"), small_gan(1, "float32")
    for gan in (coarse, fine):
        with gan.autocast():
            gan.discriminators(batch(0, torch.float32)[0], batch(1, torch.float32)[0])
    for a, b in zip(vectors(coarse.discriminators), vectors(fine.discriminators), strict=True):
        assert torch.equal(a, b)
    with coarse.autocast():
        layer = coarse.discriminators.members[0].get_submodule("layers.0")
        assert layer.weight.dtype == torch.float32
