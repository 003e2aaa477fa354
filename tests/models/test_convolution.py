"""Convolutions by matrix products: the same sums as PyTorch's own, and where they are taken."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from d3gan.models.matmul_convolution import DownConv, UpConv, down_conv_by_matmul, up_conv_by_matmul, use_matmul


def down_conv(inputs: int, outputs: int) -> nn.Module:
    layer = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
    use_matmul(layer)
    return layer


def up_conv(inputs: int, outputs: int) -> nn.Module:
    layer = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
    use_matmul(layer)
    return layer


def test_only_the_layers_that_can_be_matrix_products_change_in_place() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 4, 2, 1, bias=False),
        nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False),
        nn.Conv2d(3, 4, 4, 2, 1),
        nn.Conv2d(4, 5, 3, 1, 1, bias=False),
        nn.ConvTranspose2d(5, 5, 4, 1, 0, bias=False),
    )
    parameters = list(network.parameters())
    use_matmul(network)
    assert [type(layer) for layer in network] == [DownConv, UpConv, DownConv, nn.Conv2d, nn.ConvTranspose2d]
    assert all(a is b for a, b in zip(parameters, network.parameters(), strict=True))


def leaves(*shapes: tuple[int, ...]) -> list[Tensor]:
    source = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=source, dtype=torch.float64) for shape in shapes]
    return [t.contiguous(memory_format=torch.channels_last).requires_grad_() for t in tensors]


@pytest.mark.parametrize("side", [2, 4, 8])
def test_halving_is_pytorchs_convolution(side: int) -> None:
    images, weight, outer = leaves((3, 5, 2 * side, 2 * side), (7, 5, 4, 4), (3, 7, side, side))
    ours = down_conv_by_matmul(images, weight)
    theirs = nn.functional.conv2d(images, weight, None, 2, 1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad(y, (images, weight), outer) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("side", [2, 4, 8])
def test_doubling_is_pytorchs_transposed_convolution(side: int) -> None:
    images, weight, outer = leaves((3, 5, side, side), (5, 7, 4, 4), (3, 7, 2 * side, 2 * side))
    ours = up_conv_by_matmul(images, weight)
    theirs = nn.functional.conv_transpose2d(images, weight, None, 2, 1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad(y, (images, weight), outer) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("function", [down_conv_by_matmul, up_conv_by_matmul])
def test_they_may_be_differentiated_twice(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """As gradient penalties do."""
    images, weight = leaves((2, 3, 4, 4), (3, 3, 4, 4))
    assert torch.autograd.gradgradcheck(function, (images, weight))


@pytest.mark.parametrize(
    ("layer", "inputs", "side", "takes_in_float32", "takes_in_bf16"),
    [
        (down_conv, 256, 4, True, True),
        (down_conv, 256, 8, False, True),
        (down_conv, 128, 4, False, True),
        (down_conv, 64, 4, False, False),
        (up_conv, 256, 2, True, True),
        (up_conv, 256, 4, False, True),
    ],
)
def test_only_wide_layers_take_them_and_in_float32_only_the_smallest_maps(
    layer: Callable[[int, int], nn.Module], inputs: int, side: int, takes_in_float32: bool, takes_in_bf16: bool
) -> None:
    module, images = layer(inputs, 256), torch.zeros(64, inputs, side, side)

    def takes(dtype: torch.dtype, device: str = "cpu") -> bool:
        output = module.to(device, dtype)(images.to(device, dtype))
        return "ByMatmul" in output.grad_fn.name()

    assert takes(torch.float32) == takes_in_float32
    assert takes(torch.bfloat16) == takes_in_bf16
    assert not takes(torch.float64)
    assert not takes(torch.bfloat16, "meta")
    module = layer(inputs, 256)
    with torch.autocast("cpu", torch.bfloat16):
        assert takes(torch.float32) == takes_in_bf16
    images = images[:63]  # in float32 small batches do not pay either
    assert not takes(torch.float32)
    assert takes(torch.bfloat16) == takes_in_bf16


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
@pytest.mark.parametrize("layer", [down_conv(256, 272), up_conv(256, 272)])
@pytest.mark.parametrize("side", [2, 4])
def test_they_differ_from_pytorchs_by_rounding(
    layer: DownConv | UpConv, precision: torch.dtype | None, side: int
) -> None:
    source = torch.Generator().manual_seed(1)
    images = torch.randn(64, 256, 2 * side, 2 * side, generator=source)
    if isinstance(layer, UpConv):
        images = images[..., :side, :side]
    images.requires_grad_()
    exact = layer.double()(images.double())
    outer = torch.randn(exact.shape, generator=source)
    expected = [exact, *torch.autograd.grad(exact, (images, *layer.parameters()), outer.double())]
    layer.float()
    with torch.autocast("cpu", precision, enabled=precision is not None):
        output = layer(images)
    assert output.dtype == (precision or torch.float32)
    found = [output, *torch.autograd.grad(output, (images, *layer.parameters()), outer.to(output.dtype))]
    # Terms of either sign, added in any order: the rounding of n partial sums adds up to n^(1/2) epsilons at most.
    # In bf16 the numbers and the sums are rounded besides, the partial sums are not.
    for ours, exactly, terms in zip(found, expected, _terms(layer, side), strict=True):
        tolerance = math.sqrt(terms) * torch.finfo(torch.float32).eps
        if precision is not None:
            tolerance += torch.finfo(precision).eps
        assert (ours - exactly).norm() < tolerance * exactly.norm()


def _terms(layer: DownConv | UpConv, side: int) -> tuple[int, int, int]:
    """How many products are added up in a number of the output, of the images' and of the weight's gradient."""
    inputs, outputs = (layer.in_channels, layer.out_channels)
    if isinstance(layer, UpConv):  # a pixel of the large map gets 4 of the 16 weights
        return 4 * inputs, 16 * outputs, 64 * side**2
    return 16 * inputs, 4 * outputs, 64 * side**2
