"""Class conditioning: BatchNorm with a row of gains and biases for each class, and a discriminator's projection.

Networks without classes have neither and ignore labels. ``embedding`` takes the rows: of ``table[labels]`` several
threads of a CPU add up the gradient in no fixed order, and a run would not repeat bit for bit.
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding


class ConditionalBatchNorm2d(nn.Module):
    """BatchNorm whose gain and bias depend on the image's class (Dumoulin et al., arXiv:1610.07629, section 2.2).

    γ_y (h - μ) / σ + β_y, with μ and σ over the images of all classes together. It starts with gains 1 and biases 0.

    Args:
        channels: C of the maps (N, C, H, W).
        classes: rows of both tables.
        eps: added to the variance.
        momentum: share of the batch in the running statistics.
    """

    def __init__(self, channels: int, classes: int, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps, momentum, affine=False)
        self.gain = nn.Parameter(torch.ones(classes, channels))
        self.bias = nn.Parameter(torch.zeros(classes, channels))

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:
        """(N, C, H, W) for maps of the same shape and labels (N,) int64, 0 .. classes - 1."""
        gain, bias = embedding(labels, self.gain), embedding(labels, self.bias)
        normalized: Tensor = self.norm(maps)
        return normalized * gain[:, :, None, None] + bias[:, :, None, None]


def batch_norm(channels: int, classes: int = 0, eps: float = 1e-5, momentum: float = 0.1) -> nn.Module:
    """BatchNorm of maps, conditional where there are classes."""
    if classes:
        return ConditionalBatchNorm2d(channels, classes, eps, momentum)
    return nn.BatchNorm2d(channels, eps, momentum)


class Projection(nn.Module):
    """What a label adds to an image's logit: ⟨v_y, φ⟩ (Miyato and Koyama, arXiv:1802.05637, equation 8).

    Args:
        classes: rows v of the table.
        features: numbers in φ, the discriminator's last features, summed over space.

    The table is 0 until a network's ``initialize`` draws it.
    """

    def __init__(self, classes: int, features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes, features))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """(N,) for φ (N, features) and labels (N,) int64."""
        return (features * embedding(labels, self.weight)).sum(dim=1)


def with_projection(logits: Tensor, projection: Projection | None, features: Tensor, labels: Tensor | None) -> Tensor:
    """The logits (N,) of a discriminator, with classes plus the projection of its features.

    Args:
        logits: (N,) without classes.
        projection: of a discriminator with classes.
        features: (N, features), or maps (N, features, H, W), which only a projection sums over space.
        labels: (N,) int64 of a discriminator with classes.
    """
    if projection is None or labels is None:
        return logits
    summed = features.sum(dim=(2, 3)) if features.ndim == 4 else features
    return logits + cast(Tensor, projection(summed, labels))


def call_layers(layers: Iterable[nn.Module], maps: Tensor, labels: Tensor | None) -> Tensor:
    """Calls layers one after the other; conditional ones get the labels too."""
    for layer in layers:
        maps = layer(maps, labels) if isinstance(layer, ConditionalBatchNorm2d) else layer(maps)
    return maps


def labels_needed(classes: int, labels: Tensor | None) -> Tensor | None:
    """The labels of a network with classes; None of one without, whatever it was given.

    Raises:
        TypeError: a network with classes was called without labels.
    """
    if classes and labels is None:
        raise TypeError(f"this network makes or judges images of {classes} classes: give labels (N,) int64")
    return labels if classes else None
