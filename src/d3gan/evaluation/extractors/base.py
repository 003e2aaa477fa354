"""The base of all extractors: images in, features and logits out, the same numbers on every device.

Computation is in float32 on every device, whatever the precision of training, so that metrics of different machines
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
        name: The name in metric names.
        identity: All that decides its numbers: name, checksum of the weights, version of the preprocessing.
        feature_size: D.
        classes: C; 0 if it gives no logits.
        device: Where it computes, and where its results are.
        batch_size: Images computed at once; limits the memory of activations.
    """

    feature_size: int
    classes: int

    def __init__(self, name: str, identity: str, device: torch.device):
        self.name, self.identity, self.device = name, identity, device
        # On a CPU small batches stay in its caches and are twice as fast (benchmarks/evaluate.py); 64 channels of
        # 147 x 147 pixels of 25 images are 140 MB.
        self.batch_size = 25 if device.type == "cpu" else 250

    @abstractmethod
    def compute(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features and logits of some images, uint8 (n, 3, H, W) on the device."""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Computes features (N, D) and logits (N, C), or None for logits, on the extractor's device.

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
        """Applies ``compute`` to the images, batch by batch, in float32."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images {tuple(images.shape)} {images.dtype}: must be uint8 (N, 3, H, W)")
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            return [self._padded(compute, batch.to(self.device)) for batch in images.split(self.batch_size)]

    def _padded(self, compute: Callable[[Tensor], Any], batch: Tensor) -> Any:
        """Applies ``compute`` to at most ``batch_size`` images, padded to exactly that many.

        The algorithms that libraries choose, and with them the last bits, depend on the number of images. With the
        padding an image has the same features wherever it comes in a set, and whatever the number of processes.
        """
        missing = self.batch_size - len(batch)
        if not missing:
            return compute(batch)
        outputs = compute(torch.cat([batch, batch.new_zeros(missing, *batch.shape[1:])]))
        if isinstance(outputs, Tensor):
            return outputs[: len(batch)]
        return tuple(rows[: len(batch)] if rows is not None else None for rows in outputs)
