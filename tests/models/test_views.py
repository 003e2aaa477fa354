"""What discriminators see and drop, each by itself."""

import math

import pytest
import torch
from torch import Tensor, nn

from d3gan import TrainConfig
from d3gan.models.dcgan import Discriminator
from d3gan.models.views import Dropout, RandomProjection, add_dropout, dropping, keep_probability
from d3gan.models.widths import discriminator_width
from d3gan.randomness import stream
from d3gan.training.setup import build_gan


def images(N: int, nc: int = 3, size: int = 16) -> Tensor:
    return torch.rand(N, nc, size, size, generator=torch.Generator().manual_seed(N)) * 2 - 1


@pytest.mark.parametrize(
    ("size", "side", "kernel"), [(16, 17, 4), (32, 33, 4), (64, 32, 8), (128, 64, 8), (256, 128, 8)]
)
@pytest.mark.parametrize("nc", [1, 3])
def test_a_projection_has_one_channel_and_norm_one(size: int, side: int, kernel: int, nc: int) -> None:
    projection = RandomProjection(size, nc, stream(0, "projection", 0))
    assert projection.filter.shape == (1, nc, kernel, kernel)
    assert projection.filter.square().sum().item() == pytest.approx(1.0)
    assert projection(images(2, nc, size)).shape == (2, 1, side, side)
    assert not list(projection.parameters())


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
def test_discriminators_of_projections_fit_every_size(size: int) -> None:
    config = TrainConfig(views="projection", image_size=size, ndf=2, ngf=2)
    gan = build_gan(config, torch.device("cpu"), "float32")
    first, second = (member[0].filter for member in gan.discriminators.members)  # type: ignore[index]
    assert not torch.equal(first, second)
    found = gan.discriminators.frozen_logits(images(3, size=size))
    assert found.shape == (2, 3)
    pixels = images(2, size=size).requires_grad_()
    (gradient,) = torch.autograd.grad(gan.discriminators.frozen_logits(pixels).sum(), pixels)
    assert gradient.abs().flatten(1).sum(dim=1).min() > 0, "the generator learns through it"


def test_widths_fall_from_full_to_small() -> None:
    assert [discriminator_width(64, k, 4) for k in range(4)] == [64, 48, 32, 16]
    assert [discriminator_width(64, k, 1) for k in range(1)] == [64]
    assert [discriminator_width(2, k, 8) for k in range(8)] == [2, 2, 2, 1, 1, 1, 1, 1]
    gan = build_gan(
        TrainConfig(views="width", ndf=6, ngf=2, image_size=16, discriminators=3), torch.device("cpu"), "float32"
    )
    assert [next(member.parameters()).shape[0] for member in gan.discriminators.members] == [6, 4, 2]


def test_keep_probabilities_are_those_of_gmans_program() -> None:
    assert [keep_probability(k, 5) for k in range(5)] == pytest.approx([0.44, 0.48, 0.52, 0.56, 0.6])
    assert keep_probability(0, 1) == pytest.approx(0.6)


def test_dropout_comes_after_the_first_two_activations_and_leaves_names() -> None:
    plain, dropped = Discriminator(32, 4), Discriminator(32, 4)
    add_dropout(dropped, 0.5)
    assert plain.state_dict().keys() == dropped.state_dict().keys()
    kinds = [type(module) for module in dropped.modules() if isinstance(module, nn.LeakyReLU | Dropout)]
    assert kinds == [nn.LeakyReLU, Dropout, nn.LeakyReLU, Dropout, nn.LeakyReLU, nn.LeakyReLU]


def test_dropout_drops_only_inside_its_block_and_keeps_the_mean() -> None:
    layer, ones = Dropout(0.6), torch.ones(200_000)
    assert layer(ones) is ones
    with dropping([layer], [torch.Generator().manual_seed(1)]):
        first, second = layer(ones), layer(ones)
    assert layer(ones) is ones
    assert not torch.equal(first, second)
    assert sorted(first.unique().tolist()) == pytest.approx([0.0, 1 / 0.6])
    # Within five standard errors.
    assert first.mean().item() == pytest.approx(1.0, abs=5 * math.sqrt(0.4 / 0.6 / 200_000))
    with dropping([layer], [torch.Generator().manual_seed(1)]):
        assert torch.equal(layer(ones), first)
    with pytest.raises(KeyError), dropping([layer], [torch.Generator().manual_seed(1)]):
        raise KeyError
    assert layer(ones) is ones


@pytest.mark.parametrize("sliced", [False, True])
@pytest.mark.parametrize("views", ["same", "projection", "width", "dropout", "projection,width,dropout"])
def test_a_device_chooses_what_the_host_chooses(views: str, sliced: bool) -> None:
    """The path of accelerators, where the host does not know which discriminator it is."""
    names = [*(["slice"] if sliced else []), *([] if views == "same" else [views])]
    config = TrainConfig(views=",".join(names) or "same", discriminators=3, image_size=16, ndf=6, ngf=2, batch_size=6)
    discriminators = build_gan(config, torch.device("cpu"), "float64").discriminators
    assert discriminators.alike == (views in ("same", "projection"))
    pixels = images(6).double()
    for others in (False, True) if sliced else (False,):
        seen = discriminators.inputs(pixels, None, others=others)
        for k in range(3):
            by_host = discriminators.frozen_logits(pixels, torch.tensor(k), others=others)
            torch.testing.assert_close(discriminators.gathered_logits(seen, torch.tensor(k)), by_host)
            torch.testing.assert_close(discriminators.frozen_logits(pixels, others=others)[k], by_host)
            assert len(by_host) == ((4 if others else 2) if sliced else 6)


def test_slices_are_equal_and_the_others_are_the_rest() -> None:
    config = TrainConfig(views="slice", discriminators=3, image_size=16, ndf=2, ngf=2, batch_size=6)
    discriminators = build_gan(config, torch.device("cpu"), "float32").discriminators
    batch = torch.arange(6)
    assert [each.tolist() for each in discriminators.seen(batch)] == [[0, 1], [2, 3], [4, 5]]
    assert [each.tolist() for each in discriminators.others(batch)] == [[2, 3, 4, 5], [0, 1, 4, 5], [0, 1, 2, 3]]
