"""The DCGAN's convolutions, with matrix products where PyTorch's own are slow on a CPU.

There PyTorch 2.13 (oneDNN) multiplies the padding too, which is half of the smallest maps' windows, and computes the
weight gradient in bf16 at half the speed of a matrix product (docs/performance.md). The sums are the same up to the
order of their terms. Everywhere else PyTorch's own functions are called.
"""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from d3gan.models.products import (
    KERNEL,
    PADDING,
    PLACEWISE_SIDE,
    STRIDE,
    double,
    halve,
    is_placewise,
    weight_gradient,
)


class Fewest(NamedTuple):
    """Where products begin to pay; below they are too thin."""

    channels: int
    """On either side of the layer."""
    images: int = 1
    """In a batch."""


FEWEST = {torch.bfloat16: Fewest(128), torch.float32: Fewest(256, images=64)}


class Halving(nn.Conv2d):
    """A convolution without bias that halves the side of a map: (N, inputs, 2S, 2S) -> (N, outputs, S, S)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, KERNEL, STRIDE, PADDING, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """The smaller map."""
        dtype = _dtype_of_products(images, self.weight, images.shape[2] // 2)
        if dtype is None:
            return super().forward(images)
        return halving_by_products(images.to(dtype), self.weight.to(dtype))


class Doubling(nn.ConvTranspose2d):
    """A transposed convolution without bias that doubles a map's side: (N, inputs, S, S) -> (N, outputs, 2S, 2S)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, KERNEL, STRIDE, PADDING, bias=False)

    def forward(self, images: Tensor, output_size: Any = None) -> Tensor:
        """The larger map."""
        dtype = _dtype_of_products(images, self.weight, images.shape[2])
        if dtype is None or output_size is not None:
            return super().forward(images, output_size)
        return doubling_by_products(images.to(dtype), self.weight.to(dtype))


def _dtype_of_products(images: Tensor, weight: Tensor, side: int) -> torch.dtype | None:
    """The type to compute in where products are faster than PyTorch's convolution; None where they are not.

    Args:
        images: what is convolved.
        weight: of the convolution.
        side: of the smaller map.
    """
    if images.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else images.dtype
    if dtype not in FEWEST or min(weight.shape[:2]) < FEWEST[dtype].channels or len(images) < FEWEST[dtype].images:
        return None
    return dtype if dtype == torch.bfloat16 or side <= PLACEWISE_SIDE else None


def halving_by_products(images: Tensor, weight: Tensor) -> Tensor:
    """``Halving`` with weights (outputs, inputs, 4, 4); any floating type; may be differentiated twice."""
    return cast(Tensor, _HalvingByProducts.apply(images, weight))  # type: ignore[no-untyped-call]


def doubling_by_products(images: Tensor, weight: Tensor) -> Tensor:
    """``Doubling`` with weights (inputs, outputs, 4, 4); any floating type; may be differentiated twice."""
    return cast(Tensor, _DoublingByProducts.apply(images, weight))  # type: ignore[no-untyped-call]


class _HalvingByProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(images, weight)
        return _halve(images, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        images, weight = ctx.saved_tensors
        return (
            _double(gradient, weight) if ctx.needs_input_grad[0] else None,
            weight_gradient(images, gradient) if ctx.needs_input_grad[1] else None,
        )


class _DoublingByProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(images, weight)
        return _double(images, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        images, weight = ctx.saved_tensors
        return (
            _halve(gradient, weight) if ctx.needs_input_grad[0] else None,
            weight_gradient(gradient, images) if ctx.needs_input_grad[1] else None,
        )


def _halve(large: Tensor, weight: Tensor) -> Tensor:
    return halve(large, weight) if is_placewise(large) else functional.conv2d(large, weight, None, STRIDE, PADDING)


def _double(small: Tensor, weight: Tensor) -> Tensor:
    if max(small.shape[2:]) <= PLACEWISE_SIDE:
        return double(small, weight)
    return functional.conv_transpose2d(small, weight, None, STRIDE, PADDING)
