"""Lower limits of a step's time: its arithmetic and its bytes, and how fast the device is at each."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from variants import context_of, plain_convolutions

from d3gan import TrainConfig
from d3gan.devices import Precision, network_dtype
from d3gan.training.setup import build_gan
from d3gan.training.step import train_step

MATRIX = 4096  # side of the matrices whose product measures the device's arithmetic
COPIED = 256 << 20  # bytes of the tensor whose copy measures its memory


def product(precision: Precision, device: torch.device) -> Callable[[int], object]:
    """The product of two large matrices; on a CPU written as a 1 x 1 convolution, which is faster there."""
    dtype = torch.bfloat16 if precision == "bf16" else network_dtype(precision)
    a, b = (torch.randn(MATRIX, MATRIX, device=device).to(dtype) for _ in range(2))
    if device.type != "cpu":
        return lambda _: a @ b
    pixels, weight = a.view(1, MATRIX, MATRIX // 64, 64).to(memory_format=torch.channels_last), b[:, :, None, None]
    return lambda _: functional.conv2d(pixels, weight)


def copy(device: torch.device) -> Callable[[int], object]:
    """A copy of a tensor of 256 MB."""
    a, b = (torch.zeros(COPIED // 4, device=device) for _ in range(2))
    return lambda _: b.copy_(a)


def flops_per_image(config: TrainConfig, device: torch.device) -> float:
    """Floating-point operations of our step per image of the batch; PyTorch counts those of matrix products alone."""
    gan = build_gan(config, device, "float64")  # in which all layers are PyTorch's own
    shape = config.batch_size, config.nc, config.image_size, config.image_size
    images = torch.zeros(shape, device=device, dtype=torch.float64)
    with FlopCounterMode(display=False) as counter:
        latents = torch.zeros(shape[0], config.nz, device=device, dtype=torch.float64)
        train_step(gan, images, latents, context_of(config, device))
    return float(counter.get_total_flops()) / config.batch_size


class _Traffic(TorchDispatchMode):
    """Counts bytes as if each operator read its inputs from memory and wrote its results to memory once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operator and counts the tensors it touched; a view touches nothing."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = {id(t): t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)}
            self.bytes += sum(tensor.nbytes for tensor in tensors.values())
        return result


def bytes_per_step(config: TrainConfig, device: torch.device, precision: Precision) -> int:
    """Bytes that a step of PyTorch's own operators moves if nothing stays in a cache."""
    gan, dtype = build_gan(config, device, precision), network_dtype(precision)
    images = torch.zeros(
        config.batch_size, config.nc, config.image_size, config.image_size, device=device, dtype=dtype
    )
    latents, context = (
        torch.zeros(config.batch_size, config.nz, device=device, dtype=dtype),
        context_of(config, device),
    )
    with plain_convolutions():
        train_step(gan, images, latents, context)  # Adam's first step creates its state
        with _Traffic() as traffic:
            train_step(gan, images, latents, context)
    return int(traffic.bytes)
