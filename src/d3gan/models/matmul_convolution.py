"""4 x 4 convolutions of stride 2 and padding 1 as matrix products, where PyTorch's own are slow on a CPU.

There PyTorch 2.13 (oneDNN) multiplies the padding too, which is half of the smallest maps' windows, and computes the
weight gradient in bf16 at half the speed of a matrix product (docs/performance.md). ``use_matmul`` has a network use
them; the sums are the same up to the order of their terms.

A map of side 2S is the ``large`` one, (N, C, 2S, 2S), that of side S the ``small`` one, (N, M, S, S); weights are
(M, C, 4, 4). All tensors of a call have one floating type. Everything may be differentiated again.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight

KERNEL, STRIDE, PADDING = 4, 2, 1
# Small maps of at most this side are computed position by position: at side 2 only 9 of a window's 16 values lie on
# the large map, the others are padding that a convolution multiplies as well. From 4 on it saves too little.
POSITIONWISE_SIDE = 2


def is_positionwise(large: Tensor) -> bool:
    """Whether ``halve``, ``double`` and ``weight_gradient`` leave out the padding."""
    return max(large.shape[2:]) <= 2 * POSITIONWISE_SIDE


def halve(large: Tensor, weight: Tensor) -> Tensor:
    """The convolution of ``large``, position by position: (N, M, S, S)."""
    N, M, side = len(large), len(weight), large.shape[2] // 2
    pixels, taps = _pixels(large), _pixels(weight)
    outputs = []
    for y, ky in _spans(side):
        for x, kx in _spans(side):
            outputs.append(_times_transposed(pixels[:, y, x].reshape(N, -1), taps[:, ky, kx].reshape(M, -1)))
    return torch.stack(outputs, dim=1).view(N, side, side, M).permute(0, 3, 1, 2)


def double(small: Tensor, weight: Tensor) -> Tensor:
    """The transposed convolution of ``small``, position by position: (N, C, 2S, 2S)."""
    N, M, side, _ = small.shape
    pixels, taps = _pixels(small), _pixels(weight)
    # Up to four positions add to a pixel: in bf16 each sum would be rounded.
    sums = torch.float32 if small.dtype == torch.bfloat16 else small.dtype
    large = torch.zeros(N, 2 * side, 2 * side, weight.shape[1], dtype=sums, device=small.device)
    for i, (y, ky) in enumerate(_spans(side)):
        for j, (x, kx) in enumerate(_spans(side)):
            part = large[:, y, x]
            part += _times(pixels[:, i, j], taps[:, ky, kx].reshape(M, -1)).view(part.shape)
    return large.to(small.dtype).permute(0, 3, 1, 2)


def weight_gradient(large: Tensor, small: Tensor) -> Tensor:
    """The sum over images and positions of the small map's values times the window each came from: (M, C, 4, 4)."""
    C, M = large.shape[1], small.shape[1]
    if is_positionwise(large):
        product = torch.stack(_tap_gradients(large, small), dim=1)
    else:
        product = _transposed_times(_pixels(small).reshape(-1, M), _windows(large))
    return product.view(M, KERNEL, KERNEL, C).permute(0, 3, 1, 2)


def _tap_gradients(large: Tensor, small: Tensor) -> list[Tensor]:
    """For each of the 16 weights (M, C), row by row: the sum over the positions where it meets the map."""
    C, M, side = large.shape[1], small.shape[1], small.shape[2]
    gradients, pixels = _pixels(small), _pixels(large)
    products = []
    for i, y in _meetings(side):
        for j, x in _meetings(side):
            products.append(_transposed_times(gradients[:, i, j].reshape(-1, M), pixels[:, y, x].reshape(-1, C)))
    return products


def _pixels(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1)


def _spans(side: int) -> Sequence[tuple[slice, slice]]:
    """For each position in a row of the small map: the part of its window on the large one, and its weights'."""
    spans = []
    for position in range(side):
        first = STRIDE * position - PADDING
        low, high = max(0, first), min(2 * side, first + KERNEL)
        spans.append((slice(low, high), slice(low - first, high - first)))
    return spans


def _meetings(side: int) -> Sequence[tuple[slice, slice]]:
    """For each of a row's 4 weights: the small map's positions where it is not on padding, and the large map's."""
    meetings = []
    for k in range(KERNEL):
        positions = [i for i in range(side) if 0 <= STRIDE * i - PADDING + k < 2 * side]
        first, last = (STRIDE * i - PADDING + k for i in (positions[0], positions[-1]))
        meetings.append((slice(positions[0], positions[-1] + 1), slice(first, last + 1, STRIDE)))
    return meetings


def _windows(large: Tensor) -> Tensor:
    """Each position's window as a row, padding included: (N S S, 4 x 4 x C)."""
    padded = functional.pad(_pixels(large), (0, 0, PADDING, PADDING, PADDING, PADDING))
    unfolded = padded.unfold(1, KERNEL, STRIDE).unfold(2, KERNEL, STRIDE)  # (N, S, S, C, 4, 4)
    return unfolded.permute(0, 1, 2, 4, 5, 3).reshape(-1, KERNEL * KERNEL * large.shape[1])


# In float32 a product is written as a 1 x 1 convolution of a map one pixel wide. PyTorch computes that with oneDNN,
# and a product with a library that takes two to three times as long on AMD processors (docs/performance.md).


def _times_transposed(a: Tensor, b: Tensor) -> Tensor:
    """(n, k), (m, k) -> a b^T (n, m)."""
    if a.dtype != torch.float32:
        return a @ b.t()
    return _matrix(functional.conv2d(_map(a), b[:, :, None, None]))


def _times(a: Tensor, b: Tensor) -> Tensor:
    """(n, k), (k, m) -> a b (n, m)."""
    if a.dtype != torch.float32:
        return a @ b
    return _matrix(functional.conv_transpose2d(_map(a), b[:, :, None, None]))


def _transposed_times(a: Tensor, b: Tensor) -> Tensor:
    """(k, n), (k, m) -> a^T b (n, m)."""
    if a.dtype != torch.float32:
        return a.t() @ b
    weight = conv2d_weight(_map(b), [a.shape[1], b.shape[1], 1, 1], _map(a))
    return cast(Tensor, weight[:, :, 0, 0])


def _map(matrix: Tensor) -> Tensor:
    """(n, k) -> (1, k, 1, n), without a copy."""
    return matrix.t()[None, :, None, :]


def _matrix(one_map: Tensor) -> Tensor:
    """(1, k, 1, n) -> (n, k)."""
    return one_map[0, :, 0, :].t()


class Fewest(NamedTuple):
    """Where products begin to pay; below they are too thin."""

    channels: int
    """On either side of the layer."""
    images: int = 1
    """In a batch."""


FEWEST = {torch.bfloat16: Fewest(128), torch.float32: Fewest(256, images=64)}


def use_matmul(network: nn.Module) -> None:
    """Has a network's 4 x 4 convolutions of stride 2 computed by matrix products where these are faster.

    The layers stay the same objects with the same parameters; only their forward function changes.
    """
    for module in network.modules():
        layer = {nn.Conv2d: DownConv, nn.ConvTranspose2d: UpConv}.get(type(module))
        if layer is None or not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            continue
        sizes = module.kernel_size, module.stride, module.padding
        if sizes == ((KERNEL,) * 2, (STRIDE,) * 2, (PADDING,) * 2):
            module.__class__ = layer


class DownConv(nn.Conv2d):
    """A convolution that halves the side of a map: (N, inputs, 2S, 2S) -> (N, outputs, S, S)."""

    def forward(self, images: Tensor) -> Tensor:
        """The smaller map."""
        weight = self.weight  # read once: a parametrization computes it anew each time
        dtype = _matmul_dtype(images, weight, images.shape[2] // 2)
        if dtype is None:
            return cast(Tensor, self._conv_forward(images, weight, self.bias))
        maps = down_conv_by_matmul(images.to(dtype), weight.to(dtype))
        return maps if self.bias is None else maps + self.bias.to(dtype)[:, None, None]


class UpConv(nn.ConvTranspose2d):
    """A transposed convolution that doubles the side of a map: (N, inputs, S, S) -> (N, outputs, 2S, 2S)."""

    def forward(self, images: Tensor, output_size: Any = None) -> Tensor:
        """The larger map."""
        dtype = _matmul_dtype(images, self.weight, images.shape[2])
        if dtype is None or output_size is not None or self.bias is not None:
            return super().forward(images, output_size)
        return up_conv_by_matmul(images.to(dtype), self.weight.to(dtype))


def _matmul_dtype(images: Tensor, weight: Tensor, side: int) -> torch.dtype | None:
    """The type to compute in if products are faster than PyTorch's convolution, else None.

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
    return dtype if dtype == torch.bfloat16 or side <= POSITIONWISE_SIDE else None


def down_conv_by_matmul(images: Tensor, weight: Tensor) -> Tensor:
    """``DownConv`` with weights (outputs, inputs, 4, 4); any floating type; may be differentiated twice."""
    return cast(Tensor, _DownConvByMatmul.apply(images, weight))  # type: ignore[no-untyped-call]


def up_conv_by_matmul(images: Tensor, weight: Tensor) -> Tensor:
    """``UpConv`` with weights (inputs, outputs, 4, 4); any floating type; may be differentiated twice."""
    return cast(Tensor, _UpConvByMatmul.apply(images, weight))  # type: ignore[no-untyped-call]


class _DownConvByMatmul(torch.autograd.Function):
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


class _UpConvByMatmul(torch.autograd.Function):
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
    return halve(large, weight) if is_positionwise(large) else functional.conv2d(large, weight, None, STRIDE, PADDING)


def _double(small: Tensor, weight: Tensor) -> Tensor:
    if max(small.shape[2:]) <= POSITIONWISE_SIDE:
        return double(small, weight)
    return functional.conv_transpose2d(small, weight, None, STRIDE, PADDING)
