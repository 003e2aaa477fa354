"""Convolutions by matrix products: the same sums as PyTorch's own, and where they are taken."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from d3gan.models import convolution
from d3gan.models.convolution import Doubling, Halving, by_products, doubling_by_products, halving_by_products


def leaves(*shapes: tuple[int, ...]) -> list[Tensor]:
    source = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=source, dtype=torch.float64) for shape in shapes]
    return [t.contiguous(memory_format=torch.channels_last).requires_grad_() for t in tensors]


@pytest.mark.parametrize("side", [2, 4, 8])
def test_halving_is_pytorchs_convolution(side: int) -> None:
    images, weight, outer = leaves((3, 5, 2 * side, 2 * side), (7, 5, 4, 4), (3, 7, side, side))
    ours = halving_by_products(images, weight)
    theirs = nn.functional.conv2d(images, weight, None, 2, 1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad(y, (images, weight), outer) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("side", [2, 4, 8])
def test_doubling_is_pytorchs_transposed_convolution(side: int) -> None:
    images, weight, outer = leaves((3, 5, side, side), (5, 7, 4, 4), (3, 7, 2 * side, 2 * side))
    ours = doubling_by_products(images, weight)
    theirs = nn.functional.conv_transpose2d(images, weight, None, 2, 1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad(y, (images, weight), outer) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("function", [halving_by_products, doubling_by_products])
def test_they_may_be_differentiated_twice(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """As gradient penalties do."""
    images, weight = leaves((2, 3, 4, 4), (3, 3, 4, 4))
    assert torch.autograd.gradgradcheck(function, (images, weight))


def test_only_bf16_with_enough_channels_takes_them() -> None:
    images, weight = torch.zeros(2, 16, 4, 4), torch.zeros(16, 16, 4, 4)
    assert not by_products(images, weight)
    assert not by_products(images.double(), weight.double())
    assert by_products(images.bfloat16(), weight.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert by_products(images, weight)
        assert not by_products(images[:, :3], weight[:, :3])
        assert not by_products(images.to("meta"), weight.to("meta"))


@pytest.mark.parametrize("layer", [Halving(16, 24), Doubling(16, 24)])
def test_in_bf16_they_differ_from_pytorchs_by_rounding(layer: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(4, 16, 8, 8, generator=torch.Generator().manual_seed(1))

    def gradients() -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            output = layer(images)
        assert output.dtype == torch.bfloat16
        return [output, *torch.autograd.grad(output.float().square().sum(), list(layer.parameters()))]

    ours = gradients()
    monkeypatch.setattr(convolution, "by_products", lambda *_: False)
    for a, b in zip(ours, gradients(), strict=True):
        assert a.dtype == b.dtype
        assert (a - b).norm() < 0.01 * b.norm()
