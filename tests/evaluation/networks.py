"""Small and large networks for the tests of evaluations."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from d3gan.evaluation.extractors.inception_network import InceptionV3


def formula_weights() -> dict[str, Tensor]:
    """Weights of Inception by a formula, such that every layer's activations stay of order 1 and none is alike."""
    state = InceptionV3().state_dict()
    for k, (name, value) in enumerate(state.items()):
        if not value.is_floating_point():
            continue
        noise = _noise(value.numel(), k).reshape(value.shape)
        if name.endswith("conv.weight"):
            value.copy_(noise * (6 / value[0].numel()) ** 0.5)
        elif name.endswith(("bn.weight", "running_var")):
            value.copy_(1 + 0.2 * noise)
        else:
            value.copy_(0.1 * noise)
    return state


def _noise(count: int, place: int) -> Tensor:
    """(count,) float64 in [-1, 1): looks random, and is the same everywhere."""
    angle = torch.arange(count, dtype=torch.float64) * 12.9898 + place * 78.233
    wave = angle.sin() * 43758.5453
    return 2 * (wave - wave.floor()) - 1


def formula_images(height: int, width: int) -> Tensor:
    """Two images, uint8 (2, 3, height, width)."""
    noise = _noise(2 * 3 * height * width, 1000).reshape(2, 3, height, width)
    smooth = torch.linspace(-1, 1, width, dtype=torch.float64)
    return ((0.3 * noise + 0.6 * smooth + 1) * 127).floor().clamp(0, 255).to(torch.uint8)


class TinyNetwork(nn.Module):
    """8 features and 4 logits that depend on every pixel; for TorchScript and ExportedProgram files."""

    def __init__(self, logits: bool = True):
        super().__init__()
        self.logits = logits
        self.first = nn.Linear(48, 8)
        self.last = nn.Linear(8, 4)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 4

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(images.float() / 64 - 2, 4)
        features: Tensor = self.first(pooled.flatten(1)).tanh()
        if self.logits:
            return features, self.last(features)
        return features


class OnlyVaried(nn.Module):
    """8 features and 4 logits. With images of little contrast, an untrained generator's, they are NaN, or it fails.

    Black images, which a batch is filled up with, are no such images.
    """

    def __init__(self, fails: bool):
        super().__init__()
        self.fails = fails

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        contrast = images.float().flatten(1).std(dim=1)
        if self.fails and 0 < float(contrast.max()) < 40:
            raise RuntimeError("not enough contrast")
        pooled = nn.functional.adaptive_avg_pool2d(images.float(), 4).flatten(1)
        features = torch.where(contrast[:, None] < 40, torch.nan, pooled[:, :8])
        return features, pooled[:, 8:12]


def save_only_varied(path: Path, fails: bool = False) -> Path:
    """Writes ``OnlyVaried`` as TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(OnlyVaried(fails).eval()), str(path))
    return path


def export(network: nn.Module, path: Path, fixed: bool = False) -> Path:
    """Writes an ExportedProgram with a free number of images, or with exactly 4."""
    shapes = None if fixed else ({0: torch.export.Dim("N")},)
    program = torch.export.export(
        network.eval(), (torch.zeros(4, 3, 16, 16, dtype=torch.uint8),), dynamic_shapes=shapes
    )
    torch.export.save(program, path)
    return path
