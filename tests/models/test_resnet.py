"""The residual networks: their layers against the published parameter counts, and their first weights."""

import math

import pytest
import torch
from torch import nn

from d3gan.models.resnet import Discriminator, Generator, initialize


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts_are_the_published_ones() -> None:
    generator, discriminator = Generator(), Discriminator()
    assert parameters(generator.first) == 528_384
    assert [parameters(block) for block in generator.blocks] == [1_246_976] * 3
    assert parameters(generator.last) == 512 + 6_915
    assert parameters(generator) == 4_276_739
    assert [parameters(block) for block in discriminator.blocks] == [151_680, 311_680, 295_168, 295_168]
    assert parameters(discriminator) == 1_053_825
    # A row of gains and of biases for each of ten classes in six BatchNorms, and a row of the projection.
    assert parameters(Generator(classes=10)) == 4_276_739 + 9 * 6 * 2 * 256
    assert parameters(Discriminator(classes=10)) == 1_053_825 + 10 * 128


def gblock(a: int, b: int) -> int:
    return 9 * a * b + b + 9 * b * b + b + a * b + b + 2 * (a + b)


def dblock(a: int, b: int) -> int:
    return 9 * a * a + a + 9 * a * b + b + a * b + b


def test_larger_images_have_the_layers_of_mimicry() -> None:
    ends = {48: (512, 36), 64: (1024, 16), 128: (1024, 16)}
    generators = {48: [512, 256, 128, 64], 64: [1024, 512, 256, 128, 64], 128: [1024, 1024, 512, 256, 128, 64]}
    discriminators = {size: [64, 128, 256, 512, 1024] for size in (48, 64)} | {128: [64, 128, 256, 512, 1024, 1024]}
    for size, (width, pixels) in ends.items():
        widths = generators[size]
        blocks = sum(map(gblock, widths, widths[1:]))
        last = 2 * 64 + 27 * 64 + 3
        assert parameters(Generator(size, ngf=64)) == 129 * width * pixels + blocks + last
        widths = discriminators[size]
        first = 28 * 64 + (9 * 64 + 1) * 64 + 4 * 64
        # At 128 pixels the last block neither halves the side nor changes the width: it has no shortcut to learn.
        identity = 1024 * 1024 + 1024 if size == 128 else 0
        blocks = sum(map(dblock, widths, widths[1:])) - identity
        assert parameters(Discriminator(size, ndf=64)) == first + blocks + 1025


@pytest.mark.parametrize(("size", "last"), [(32, 8), (48, 3), (64, 2), (128, 4)])
def test_shapes_and_ranges_at_every_resolution(size: int, last: int) -> None:
    generator, discriminator = Generator(size, 7, 2, 1), Discriminator(size, 2, 1)
    images = generator(torch.randn(2, 7))
    assert images.shape == (2, 1, size, size)
    assert images.abs().max() <= 1
    assert discriminator(images).shape == (2,)
    assert discriminator.blocks(images).shape[2:] == (last, last)


def test_a_block_is_the_published_sum_of_two_paths() -> None:
    block = Discriminator(48, 3).blocks[1].double()
    first, second, shortcut = (m for m in block.modules() if isinstance(m, nn.Conv2d))
    maps = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    pooled = nn.functional.avg_pool2d(second(first(maps.relu()).relu()), 2)
    # In the published program the shortcut is pooled after its convolution.
    expected = pooled + nn.functional.avg_pool2d(shortcut(maps), 2)
    torch.testing.assert_close(block(maps), expected)
    up = Generator(48, 4, 3).blocks[0].double()
    first, second, shortcut = (m for m in up.modules() if isinstance(m, nn.Conv2d))
    before, between = (m for m in up.modules() if isinstance(m, nn.BatchNorm2d))
    maps = torch.randn(2, 24, 3, 3, dtype=torch.float64)

    def doubled(small: torch.Tensor) -> torch.Tensor:
        return small.repeat_interleave(2, 2).repeat_interleave(2, 3)

    residual = second(between(first(doubled(before(maps).relu()))).relu())
    torch.testing.assert_close(up(maps, None), residual + shortcut(doubled(maps)))


def test_first_weights_are_uniform_with_the_published_gains() -> None:
    for network in (Generator(32, 16, 16, classes=3), Discriminator(32, 16, classes=3)):
        initialize(network, torch.Generator().manual_seed(0))
        for name, values in network.named_parameters():
            if "weight" in name and values.ndim > 1:
                taps = values[0, 0].numel() if values.ndim == 4 else 1
                gain = math.sqrt(2) if ".layers." in name else 1.0
                bound = gain * math.sqrt(6 / (taps * (values.shape[0] + values.shape[1])))
                assert 0.9 * bound < values.abs().max() <= bound, name
            else:
                assert (values == (0.0 if name.endswith("bias") else 1.0)).all(), name
