"""R3GAN's networks: their layers counted by hand, the filter of their resampling, and their first weights."""

import math

import pytest
import torch
from torch import nn

from d3gan.models.r3gan import Block, Discriminator, Generator, initialize
from d3gan.models.widths import r3gan_multipliers


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def block(channels: int) -> int:
    """1 x 1 to twice the channels, 3 x 3 in groups of 16, 1 x 1 back; two biases."""
    return 2 * channels**2 + 9 * 2 * channels * 16 + 2 * channels**2 + 4 * channels


def test_parameter_counts_are_those_of_the_published_layers() -> None:
    generator, discriminator = Generator(ngf=768), Discriminator(ndf=768)
    grouped = [m for m in generator.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert {m.groups for m in grouped} == {96}
    assert parameters(generator) == 16 * 768 + 64 * 768 + 8 * block(768) + 3 * 768
    assert parameters(discriminator) == 3 * 768 + 8 * block(768) + 16 * 768 + 768
    assert block(768) == 2_583_552
    # With ten classes: an embedding of 64 numbers and its columns of the linear layer; 768 outputs instead of one,
    # and an embedding of as many.
    assert parameters(Generator(ngf=768, classes=10)) == parameters(generator) + 10 * 64 + 64 * 768
    assert parameters(Discriminator(ndf=768, classes=10)) == parameters(discriminator) + 767 * 768 + 10 * 768


def test_widths_are_those_of_the_programs_presets() -> None:
    assert [96 * m for m in r3gan_multipliers(256)] == [96, 192, 384, 768, 768, 768, 768]
    assert [384 * m for m in r3gan_multipliers(64)] == [384, 768, 768, 768, 768]
    assert [768 * m for m in r3gan_multipliers(32)] == [768] * 4
    between = 384 * 768
    assert parameters(Generator(64, ngf=384)) == 80 * 768 + 8 * block(768) + 2 * block(384) + between + 3 * 384


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
def test_shapes_at_every_resolution(size: int) -> None:
    generator, discriminator = Generator(size, 7, 2, 1), Discriminator(size, 3, 1)
    for network in (generator, discriminator):
        initialize(network, torch.Generator().manual_seed(0))
    images = generator(torch.randn(2, 7))
    assert images.shape == (2, 1, size, size)
    assert generator(100 * torch.randn(2, 7)).abs().max() > 1, "no tanh holds them"
    assert discriminator(images).shape == (2,)
    assert discriminator.layers(images).shape[2:] == (4, 4)


def test_maps_are_resampled_with_the_filter_1331() -> None:
    row = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
    weight = torch.outer(row, row)[None, None].expand(3, 1, 4, 4)
    maps = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    up = next(m for m in Generator().layers if isinstance(m, nn.Sequential))
    down = next(m for m in Discriminator().layers if isinstance(m, nn.Sequential))
    expected = nn.functional.conv_transpose2d(maps, weight / 16, None, 2, 1, groups=3)
    torch.testing.assert_close(up(maps), expected)
    torch.testing.assert_close(down(maps), nn.functional.conv2d(maps, weight / 64, None, 2, 1, groups=3))


def test_the_logit_is_that_of_a_convolution_with_a_group_per_channel() -> None:
    network = Discriminator(16, 4).double()
    initialize(network, torch.Generator().manual_seed(0))
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    features = nn.functional.conv2d(network.layers(images), network.basis[:, None], groups=4).flatten(1)
    torch.testing.assert_close(network(images), network.last(features)[:, 0])


def test_labels_enter_as_published() -> None:
    generator, discriminator = Generator(16, 5, 4, classes=3).double(), Discriminator(16, 4, classes=3).double()
    for network in (generator, discriminator):
        initialize(network, torch.Generator().manual_seed(0))
    assert generator.embedding is not None
    assert discriminator.projection is not None
    latents, labels = torch.randn(4, 5, dtype=torch.float64), torch.tensor([2, 0, 1, 2])
    joined = torch.cat([latents, generator.embedding.weight[labels]], dim=1)
    scaled = generator.basis * (joined @ generator.first.weight.T)[:, :, None, None]
    images = generator(latents, labels)
    torch.testing.assert_close(images, generator.layers(scaled))
    features = discriminator.last((discriminator.layers(images) * discriminator.basis).sum(dim=(2, 3)))
    expected = torch.stack([features[i] @ discriminator.projection.weight[y] for i, y in enumerate(labels)])
    torch.testing.assert_close(discriminator(images, labels), expected)


def test_first_weights_have_the_published_spread_and_blocks_change_nothing() -> None:
    for network in (Generator(32, 64, 64, classes=40), Discriminator(32, 64, classes=40)):
        initialize(network, torch.Generator().manual_seed(0))
        inside = math.sqrt(2 / 1.04) * 8**-0.25
        for name, module in network.named_modules():
            if isinstance(module, Block):
                maps = torch.randn(1, 64, 3, 3)
                assert torch.equal(module(maps), maps)
                first, grouped, _ = (layer.weight for layer in module.layers if isinstance(layer, nn.Conv2d))
                assert first.std().item() == pytest.approx(inside / 8, rel=0.05), name
                assert grouped.std().item() == pytest.approx(inside / 12, rel=0.05), name
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                assert module.bias.abs().max() == 0
    generator, discriminator = Generator(32, 64, 64, classes=40), Discriminator(32, 64, classes=40)
    for network in (generator, discriminator):
        initialize(network, torch.Generator().manual_seed(0))
    assert generator.embedding is not None
    assert discriminator.projection is not None
    spreads = {
        1.0: generator.basis,
        1 / 4: discriminator.basis,
        1 / 8: discriminator.last.weight,
        128**-0.5: generator.first.weight,
        40**-0.5: generator.embedding.weight,
        (40 * 64) ** -0.5: discriminator.projection.weight,
    }
    for spread, values in spreads.items():
        assert values.std().item() == pytest.approx(spread, rel=0.1)
