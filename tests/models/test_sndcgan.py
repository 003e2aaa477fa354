"""SNDCGAN: its layers, counted by hand, and its first weights."""

import pytest
import torch
from torch import nn

from d3gan.models.sndcgan import Discriminator, Generator, initialize


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts_are_those_of_the_published_layers() -> None:
    linear, batch_norms = 128 * 8192 + 8192, 2 * (512 + 256 + 128 + 64)
    transposed = 16 * (512 * 256 + 256 * 128 + 128 * 64)
    assert parameters(Generator()) == linear + batch_norms + transposed + 27 * 64 + 3 == 3_812_931
    widths = [(3, 3, 64), (4, 64, 128), (3, 128, 128), (4, 128, 256), (3, 256, 256), (4, 256, 512), (3, 512, 512)]
    convolutions = sum(k**2 * a * b + b for k, a, b in widths)
    assert parameters(Discriminator()) == convolutions + 8192 + 1 == 5_860_865
    assert parameters(Generator(classes=10)) == parameters(Generator()) + 9 * batch_norms
    assert parameters(Discriminator(classes=10)) == parameters(Discriminator()) + 10 * 512
    # BatchNorm's bias takes the place of the convolution's, its gain comes on top.
    assert parameters(Discriminator(batch_norm=True)) == parameters(Discriminator()) + 2 * 128 + 2 * 256 + 2 * 512


@pytest.mark.parametrize(("size", "innermost"), [(16, 4), (32, 4), (48, 6), (64, 4), (128, 4)])
def test_shapes_and_ranges_at_every_resolution(size: int, innermost: int) -> None:
    generator, discriminator = Generator(size, 7, 2, 1), Discriminator(size, 2, 1)
    images = generator(torch.randn(2, 7))
    assert images.shape == (2, 1, size, size)
    assert images.abs().max() <= 1
    assert discriminator(images).shape == (2,)
    assert discriminator.layers(images).shape[2:] == (innermost, innermost)


def test_first_weights_have_the_published_spread() -> None:
    for network in (Generator(), Discriminator(batch_norm=True, classes=3)):
        initialize(network, torch.Generator().manual_seed(0))
        for name, values in network.named_parameters():
            if values.ndim > 1:
                assert values.mean().abs() < 0.005, name
                assert values.std().item() == pytest.approx(0.02, rel=0.1), name
            elif name.endswith("bias"):
                assert values.abs().max() == 0, name
            else:
                assert (values == 1).all(), name
