"""DiffAugment: every image changed at random, in both phases (Zhao et al., arXiv:2006.10738).

Ranges and order are those of the authors' program.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from d3gan.augmentation.base import Augmentation, pixels, whole


def color(images: Tensor, uniforms: Tensor) -> Tensor:
    """Brightness, then saturation, then contrast.

    x + b, b in ±½; (x - m) s + m with m the mean of a pixel's channels, s in [0, 2); (x - m) c + m with m the mean
    of the image, c in [½, 1½). Of a grey image the second changes nothing.

    Args:
        images: (N, C, S, S).
        uniforms: (N, 3).
    """
    brightness, saturation, contrast = uniforms[:, :, None, None, None].unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = (images - grey) * (2 * saturation) + grey
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    changed: Tensor = (images - mean) * (contrast + 0.5) + mean
    return changed


def translation(images: Tensor, uniforms: Tensor) -> Tensor:
    """A shift by whole pixels, at most an eighth of the size each way; what comes in is 0.

    Args:
        images: (N, C, S, S).
        uniforms: (N, 2), down and to the right.
    """
    size = images.shape[-1]
    most = int(size / 8 + 0.5)
    down, right = (whole(uniforms, 2 * most + 1) - most)[:, :, None, None].unbind(1)
    places = torch.arange(size, device=images.device)
    rows, columns = torch.broadcast_tensors(places[:, None] - down, places - right)
    inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    shifted = pixels(images, rows.clamp(0, size - 1), columns.clamp(0, size - 1))
    return shifted.mul(inside[..., None]).permute(0, 3, 1, 2)


def cutout(images: Tensor, uniforms: Tensor) -> Tensor:
    """A square of half the size set to 0, its centre anywhere in the image: at the border a part of it is outside.

    Args:
        images: (N, C, S, S).
        uniforms: (N, 2), the centre's row and column.
    """
    size = images.shape[-1]
    side = int(size / 2 + 0.5)
    # A square of an even side has its centre between pixels, so there is one place more.
    first = whole(uniforms, size + 1 - side % 2) - side // 2
    away = torch.arange(size, device=images.device) - first[:, :, None]
    rows, columns = ((away >= 0) & (away < side)).unbind(1)
    return images * ~(rows[:, None, :, None] & columns[:, None, None, :])


POLICIES: dict[str, tuple[int, Callable[[Tensor, Tensor], Tensor]]] = {
    "color": (3, color),
    "translation": (2, translation),
    "cutout": (2, cutout),
}
"""Name -> the uniform numbers that it takes for each image, and what it does; in the order in which they are done."""


class DiffAugment(Augmentation):
    """Some of the policies, one after the other.

    Args:
        names: of ``POLICIES``.
    """

    def __init__(self, names: Sequence[str]):
        super().__init__()
        self._policies = [policy for name, policy in POLICIES.items() if name in names]
        self.draws = sum(count for count, _ in self._policies)

    def change(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """As ``forward``."""
        parts = uniforms.split([count for count, _ in self._policies], dim=1)
        for (_, policy), own in zip(self._policies, parts, strict=True):
            images = policy(images, own)
        return images
