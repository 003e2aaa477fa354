"""The DCGAN's convolutions, with matrix products where PyTorch's own are slow: in bf16 on a CPU.

There PyTorch 2.13 (oneDNN) computes the weight gradient of a 4 x 4 convolution at a half to a quarter of the speed of
a matrix product of the same size, and the smallest maps forward as well (docs/performance.md). The sums are the same
up to the order of their terms. Everywhere else PyTorch's own functions are called.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

KERNEL, STRIDE, PADDING = 4, 2, 1
# Maps of at most this side are convolved forward by a matrix product.
SMALL_SIDE = 2
# With fewer channels the product is too thin to pay: those of an image.
FEWEST_CHANNELS = 16


class Halving(nn.Conv2d):
    """A convolution without bias that halves the side of a map: (N, inputs, 2S, 2S) -> (N, outputs, S, S)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, KERNEL, STRIDE, PADDING, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """The smaller map."""
        if by_products(images, self.weight):
            return halving_by_products(images.bfloat16(), self.weight.bfloat16())
        return super().forward(images)


class Doubling(nn.ConvTranspose2d):
    """A transposed convolution without bias that doubles a map's side: (N, inputs, S, S) -> (N, outputs, 2S, 2S)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, KERNEL, STRIDE, PADDING, bias=False)

    def forward(self, images: Tensor, output_size: Any = None) -> Tensor:
        """The larger map."""
        if output_size is None and by_products(images, self.weight):
            return doubling_by_products(images.bfloat16(), self.weight.bfloat16())
        return super().forward(images, output_size)


def by_products(images: Tensor, weight: Tensor) -> bool:
    """Whether a convolution is to be computed by ``halving_by_products`` or ``doubling_by_products``."""
    if images.device.type != "cpu" or min(weight.shape[:2]) < FEWEST_CHANNELS:
        return False
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return autocast or images.dtype == torch.bfloat16


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
        return halve(images, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        images, weight = ctx.saved_tensors
        return (
            functional.conv_transpose2d(gradient, weight, None, STRIDE, PADDING) if ctx.needs_input_grad[0] else None,
            weight_gradient(images, gradient) if ctx.needs_input_grad[1] else None,
        )


class _DoublingByProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(images, weight)
        return functional.conv_transpose2d(images, weight, None, STRIDE, PADDING)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        images, weight = ctx.saved_tensors
        return (
            halve(gradient, weight) if ctx.needs_input_grad[0] else None,
            weight_gradient(gradient, images) if ctx.needs_input_grad[1] else None,
        )


def halve(large: Tensor, weight: Tensor) -> Tensor:
    """The convolution of (N, C, 2S, 2S) with weights (M, C, 4, 4): (N, M, S, S)."""
    N, _, height, width = large.shape
    if max(height, width) > 2 * SMALL_SIDE:
        return functional.conv2d(large, weight, None, STRIDE, PADDING)
    product = windows(large) @ weight.permute(0, 2, 3, 1).reshape(len(weight), -1).t()
    return product.view(N, height // 2, width // 2, -1).permute(0, 3, 1, 2)


def weight_gradient(large: Tensor, small: Tensor) -> Tensor:
    """The sum over images and places of a small map's values times the window each came from.

    Args:
        large: (N, C, 2S, 2S).
        small: (N, M, S, S).

    Returns:
        (M, C, 4, 4), laid out channels last.
    """
    C, M = large.shape[1], small.shape[1]
    product = small.permute(0, 2, 3, 1).reshape(-1, M).t() @ windows(large)
    return product.view(M, KERNEL, KERNEL, C).permute(0, 3, 1, 2)


def windows(large: Tensor) -> Tensor:
    """Each window that the convolution looks at as a row: (N, C, 2S, 2S) -> (N S S, 4 x 4 x C)."""
    padded = functional.pad(large.permute(0, 2, 3, 1), (0, 0, PADDING, PADDING, PADDING, PADDING))
    unfolded = padded.unfold(1, KERNEL, STRIDE).unfold(2, KERNEL, STRIDE)  # (N, S, S, C, 4, 4)
    return unfolded.permute(0, 1, 2, 4, 5, 3).reshape(-1, KERNEL * KERNEL * large.shape[1])
