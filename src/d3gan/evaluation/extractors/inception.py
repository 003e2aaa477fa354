"""The Inception-v3 of 2015, whose features define FID and IS."""

from pathlib import Path

import torch
from torch import Tensor

from d3gan.data.files import hash_file
from d3gan.errors import ConfigError
from d3gan.evaluation.extractors import inception_network
from d3gan.evaluation.extractors.base import Extractor
from d3gan.evaluation.extractors.weights import INCEPTION, load_weights


class Inception(Extractor):
    """The network that defines FID; see ``d3gan.evaluation.extractors.inception_network``."""

    feature_size = inception_network.FEATURES
    classes = inception_network.CLASSES

    def __init__(self, network: inception_network.InceptionV3, sha256: str, device: torch.device):
        name = "inception" if sha256 == INCEPTION.sha256 else f"inception-{sha256[:8]}"
        super().__init__(name, f"{name} {sha256} resize-1", device)
        self._network = network.to(device).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def compute(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, 2048) and logits (n, 1008)."""
        features, logits = self._network(inception_network.prepare(images))
        return features, logits

    def early_features(self, images: Tensor) -> Tensor:
        """(N, 64) float32: the first pool's output, averaged over each image of uint8 (N, 3, H, W)."""

        def early(batch: Tensor) -> Tensor:
            pooled: Tensor = self._network.early(inception_network.prepare(batch))
            return pooled.mean(dim=(2, 3))

        return torch.cat(self._map(early, images))


def inception(weights: str | Path, device: str | torch.device = "cpu") -> Inception:
    """Loads Inception with the weights in a file: a state dict of the PyTorch port, 566 entries.

    Only with the published file is the extractor named ``inception``; with any other its name includes the file's
    checksum, so that nobody mistakes its metrics for FID.

    Raises:
        ConfigError: there is no such file.
        ExternalError: the file cannot be read, or holds no such state dict.
    """
    path = Path(weights)
    if not path.is_file():
        raise ConfigError(f"inception weights {path}: no such file")
    network = inception_network.InceptionV3()
    load_weights(network, path, "the Inception weights")
    return Inception(network, hash_file(path, "sha256"), torch.device(device))
