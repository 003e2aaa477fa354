"""Extractors of a user's own: TorchScript and ExportedProgram files."""

import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from d3gan.data.files import hash_file
from d3gan.errors import ConfigError, ExternalError
from d3gan.evaluation.extractors.base import Extractor
from d3gan.files import disk_errors


class UserExtractor(Extractor):
    """A program of the user's own: uint8 images (N, 3, H, W) to features (N, D), or to (features, logits (N, C))."""

    def __init__(
        self, program: Callable[[Tensor], Any], path: Path, sha256: str, device: torch.device, image_size: int
    ):
        name = f"{path.stem}-{sha256[:8]}"
        super().__init__(name, f"{name} {sha256}", device)
        self._program, self._path = program, path
        shape = (self.batch_size, 3, image_size, image_size)
        features, logits = self(torch.zeros(shape, dtype=torch.uint8))
        self.feature_size = features.shape[1]
        self.classes = logits.shape[1] if logits is not None else 0

    def compute(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the program gives, checked."""
        try:
            given = self._program(images)
        except Exception as error:  # whatever a program of somebody else's raises
            # TorchScript's messages end with the error that its traceback leads to.
            reason = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
            shape = tuple(images.shape)
            raise ExternalError(f"{self._path}: fails on uint8 images {shape}: {reason}") from error
        parts = tuple(given) if isinstance(given, tuple | list) else (given,)
        fits = 1 <= len(parts) <= 2 and all(
            isinstance(part, Tensor) and part.ndim == 2 and len(part) == len(images) and part.is_floating_point()
            for part in parts
        )
        if not fits:
            raise ExternalError(
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
        ExternalError: it is neither, or does not keep to the contract.
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
        raise ExternalError(
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
