"""The Inception-v3 of 2015-12-05, which defines FID and the Inception Score.

Szegedy et al. 2015 (arXiv:1512.00567), with the deviations of the published TensorFlow graph: the average pools
inside the blocks do not count padding, the last block pools by maximum, and classes are 1008. Parameters are named
as in ``pt_inception-2015-12-05-6726825d.pth``, the PyTorch port that pytorch-fid and torch-fidelity share.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

SIZE = 299
FEATURES, EARLY_FEATURES, CLASSES = 2048, 64, 1008

Kernel = int | tuple[int, int]
Layer = tuple[str, int, Kernel, int]
"""Name, output channels, kernel, stride."""
Path = Sequence[tuple[Layer, ...]]
"""Stages one after the other; the layers of one stage share their input, and their outputs are concatenated."""


class ConvolutionNorm(nn.Module):
    """Convolution without bias, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, stride: int = 1, padding: Kernel = 0):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, images: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H', W')."""
        return functional.relu(self.bn(self.conv(images)), inplace=True)


class Mixed(nn.Module):
    """Parallel paths with concatenated outputs; the last one is a pool, optionally followed by a convolution."""

    def __init__(self, inputs: int, paths: Sequence[Path], pool: nn.Module, pool_outputs: int = 0):
        super().__init__()
        self.paths = [[[layer[0] for layer in layers] for layers in path] for path in paths]
        self.outputs = 0
        for path in paths:
            width = inputs
            for layers in path:
                for name, outputs, kernel, stride in layers:
                    self.add_module(name, ConvolutionNorm(width, outputs, kernel, stride, _padding(kernel, stride)))
                width = sum(layer[1] for layer in layers)
            self.outputs += width
        self.pool = pool
        self.branch_pool = ConvolutionNorm(inputs, pool_outputs, 1) if pool_outputs else nn.Identity()
        self.outputs += pool_outputs or inputs

    def forward(self, images: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H', W')."""
        joined = []
        for path in self.paths:
            values = images
            for names in path:
                outputs = [self.get_submodule(name)(values) for name in names]
                values = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
            joined.append(values)
        return torch.cat([*joined, self.branch_pool(self.pool(images))], dim=1)


def _padding(kernel: Kernel, stride: int) -> Kernel:
    """Inside a block a stride of 1 keeps the size and a stride of 2 pads nothing."""
    if stride > 1:
        return 0
    return kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)


def _one(name: str, outputs: int, kernel: Kernel = 1, stride: int = 1) -> tuple[Layer]:
    return ((name, outputs, kernel, stride),)


def _average() -> nn.Module:
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)


def _block_a(inputs: int, pool_outputs: int) -> Mixed:
    """35 x 35."""
    five = [_one("branch5x5_1", 48), _one("branch5x5_2", 64, 5)]
    double = [_one("branch3x3dbl_1", 64), _one("branch3x3dbl_2", 96, 3), _one("branch3x3dbl_3", 96, 3)]
    return Mixed(inputs, [[_one("branch1x1", 64)], five, double], _average(), pool_outputs)


def _block_b(inputs: int) -> Mixed:
    """35 x 35 to 17 x 17."""
    double = [_one("branch3x3dbl_1", 64), _one("branch3x3dbl_2", 96, 3), _one("branch3x3dbl_3", 96, 3, 2)]
    return Mixed(inputs, [[_one("branch3x3", 384, 3, 2)], double], nn.MaxPool2d(3, stride=2))


def _block_c(inputs: int, width: int) -> Mixed:
    """17 x 17."""
    row, column = (1, 7), (7, 1)
    seven = [_one("branch7x7_1", width), _one("branch7x7_2", width, row), _one("branch7x7_3", 192, column)]
    double = [
        _one("branch7x7dbl_1", width),
        _one("branch7x7dbl_2", width, column),
        _one("branch7x7dbl_3", width, row),
    ]
    double += [_one("branch7x7dbl_4", width, column), _one("branch7x7dbl_5", 192, row)]
    return Mixed(inputs, [[_one("branch1x1", 192)], seven, double], _average(), 192)


def _block_d(inputs: int) -> Mixed:
    """17 x 17 to 8 x 8."""
    three = [_one("branch3x3_1", 192), _one("branch3x3_2", 320, 3, 2)]
    seven = [_one("branch7x7x3_1", 192), _one("branch7x7x3_2", 192, (1, 7)), _one("branch7x7x3_3", 192, (7, 1))]
    return Mixed(inputs, [three, [*seven, _one("branch7x7x3_4", 192, 3, 2)]], nn.MaxPool2d(3, stride=2))


def _block_e(inputs: int, pool: nn.Module) -> Mixed:
    """8 x 8."""

    def fork(name: str) -> tuple[Layer, Layer]:
        return (f"{name}a", 384, (1, 3), 1), (f"{name}b", 384, (3, 1), 1)

    three = [_one("branch3x3_1", 384), fork("branch3x3_2")]
    double = [_one("branch3x3dbl_1", 448), _one("branch3x3dbl_2", 384, 3), fork("branch3x3dbl_3")]
    return Mixed(inputs, [[_one("branch1x1", 320)], three, double], pool, 192)


class InceptionV3(nn.Module):
    """Maps images (N, 3, 299, 299) float in [-1, 1] to early features, features and logits."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvolutionNorm(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = ConvolutionNorm(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvolutionNorm(32, EARLY_FEATURES, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvolutionNorm(EARLY_FEATURES, 80, 1)
        self.Conv2d_4a_3x3 = ConvolutionNorm(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _block_a(192, 32), _block_a(256, 64), _block_a(288, 64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b, self.Mixed_6c = _block_c(768, 128), _block_c(768, 160)
        self.Mixed_6d, self.Mixed_6e = _block_c(768, 160), _block_c(768, 192)
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b = _block_e(1280, _average())
        self.Mixed_7c = _block_e(2048, nn.MaxPool2d(3, stride=1, padding=1))
        self.fc = nn.Linear(FEATURES, CLASSES)

    def early(self, images: Tensor) -> Tensor:
        """(N, 64, 73, 73): the output of the first pool."""
        values = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))
        return functional.max_pool2d(values, 3, stride=2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 2048) and logits (N, 1008) without the last layer's bias.

        The Inception Score is computed from these logits because the code published with it left the bias out
        (Salimans et al. 2016).
        """
        values = functional.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(self.early(images))), 3, stride=2)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            values = self.get_submodule(f"Mixed_{name}")(values)
        # In float64, as in ``prepare``.
        precise = values.dtype if values.device.type == "mps" else torch.float64
        features = values.mean(dim=(2, 3), dtype=precise).float()
        return features, functional.linear(features, self.fc.weight)


def prepare(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) -> float32 (N, 3, 299, 299) in [-1, 1], as pytorch-fid does.

    Bilinear with half-pixel centres and without antialiasing, then scaled. (The original graph, and
    torch-fidelity, resize without half-pixel centres and scale by (x - 128) / 128; docs/evaluation.md.)
    """
    # In float64 where the device has it: in float32 the last bits depend on the number of threads.
    precise = torch.float32 if images.device.type == "mps" else torch.float64
    resized = functional.interpolate(images.to(precise) / 255, (SIZE, SIZE), mode="bilinear", align_corners=False)
    return (2 * resized - 1).float()
