"""What every extractor is: images in, features and logits out, the same numbers wherever it runs.

Computation is in float32 on every device, whatever the precision of training, so that figures of different machines
can be compared: without autocast, and without TF32 in convolutions. (Matrix products follow PyTorch's own setting,
which d3gan leaves at its default, no TF32.)
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Extractor(ABC):
    """Maps uint8 images (N, 3, H, W) to features (N, D) float32 and class logits (N, C) float32.

    Attributes:
        name: As it stands beside every figure.
        identity: What decides its numbers: name, checksum of the weights, version of the preprocessing.
        feature_size: D.
        classes: C; 0 where it gives no logits.
        device: Where it computes, and where its results are.
        batch_size: Images computed at once; bounds the memory of the layers in between.
    """

    feature_size: int
    classes: int

    def __init__(self, name: str, identity: str, device: torch.device):
        self.name, self.identity, self.device = name, identity, device
        # On a CPU few images stay in its caches, and are twice as fast (benchmarks/evaluate.py); 64 channels of
        # 147 x 147 pixels of 25 images are 140 MB.
        self.batch_size = 25 if device.type == "cpu" else 250

    @abstractmethod
    def compute(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features and logits of some images, uint8 (n, 3, H, W) on the device."""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (N, D) and logits (N, C), or None for those, on the extractor's device.

        Args:
            images: uint8 (N, 3, H, W), 0..255, on any device.

        Raises:
            ValueError: another shape or type.
        """
        parts = self._map(self.compute, images)
        features = torch.cat([part[0] for part in parts])
        logits = [part[1] for part in parts if part[1] is not None]
        return features, torch.cat(logits) if logits else None

    def _map(self, compute: Callable[[Tensor], Any], images: Tensor) -> list[Any]:
        """What ``compute`` makes of some images at a time, in float32."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images {tuple(images.shape)} {images.dtype}: must be uint8 (N, 3, H, W)")
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            return [self._whole(compute, part.to(self.device)) for part in images.split(self.batch_size)]

    def _whole(self, compute: Callable[[Tensor], Any], part: Tensor) -> Any:
        """What ``compute`` makes of at most ``batch_size`` images, always called with exactly so many.

        The algorithms that libraries choose, and with them the last bits, depend on the number of images. So an image
        has the same features wherever it stands, and in however many processes the work is done.
        """
        missing = self.batch_size - len(part)
        if not missing:
            return compute(part)
        given = compute(torch.cat([part, part.new_zeros(missing, *part.shape[1:])]))
        if isinstance(given, Tensor):
            return given[: len(part)]
        return tuple(rows[: len(part)] if rows is not None else None for rows in given)
