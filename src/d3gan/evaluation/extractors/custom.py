"""The user's own extractors: TorchScript and ExportedProgram files."""

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
from d3gan.errors import ConfigError, ExternalError, first_line
from d3gan.evaluation.extractors.base import Extractor
from d3gan.files import disk_errors


class UserExtractor(Extractor):
    """The user's own program: uint8 images (N, 3, H, W) to features (N, D), or to (features, logits (N, C))."""

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
        """Runs the program and checks its output."""
        try:
            output = self._program(images)
        except Exception as error:  # a user's program may raise anything
            # TorchScript's messages are tracebacks, which end with the error itself.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
            shape = tuple(images.shape)
            raise ExternalError(f"{self._path}: fails on uint8 images {shape}: {reason}") from error
        parts = tuple(output) if isinstance(output, tuple | list) else (output,)
        fits = 1 <= len(parts) <= 2 and all(
            isinstance(part, Tensor) and part.ndim == 2 and len(part) == len(images) and part.is_floating_point()
            for part in parts
        )
        if not fits:
            shapes = [f"{tuple(p.shape)} {p.dtype}" if isinstance(p, Tensor) else type(p).__name__ for p in parts]
            raise ExternalError(
                f"features {self.name}: must give features (N, D), or features and logits (N, C), as floating point; "
                f"for {len(images)} images it gave {', '.join(shapes) or 'nothing'}"
            )
        return parts[0].float(), parts[1].float() if len(parts) == 2 else None


def from_file(path: str | Path, device: str | torch.device = "cpu", image_size: int = 32) -> UserExtractor:
    """Loads an extractor from a TorchScript or ExportedProgram file. It is a program: load only what you trust.

    Args:
        path: the file; it must accept any number of images per call.
        device: where to compute.
        image_size: side in pixels of the images to measure; the program is tried with such images.

    Raises:
        ConfigError: there is no such file.
        ExternalError: the file is neither, or its output has other shapes or types.
    """
    path, device = Path(path), torch.device(device)
    if not path.is_file():
        raise ConfigError(f"features = {path}: no such file")
    with disk_errors(path):
        sha256 = hash_file(path, "sha256")
    try:
        program = _open_program(path, device)
    except Exception as error:  # torch may raise anything on a damaged file
        raise ExternalError(
            f"{path}: is neither TorchScript nor an ExportedProgram that can be read ({first_line(error)})"
        ) from error
    return UserExtractor(program, path, sha256, device, image_size)


def _open_program(path: Path, device: torch.device) -> Callable[[Tensor], Any]:
    with zipfile.ZipFile(path) as archive:
        script = any(name.split("/")[1:2] == ["code"] for name in archive.namelist())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecations, which a user of the file cannot change
        if script:
            module: nn.Module = torch.jit.load(str(path), map_location=device)
            return module.eval()
        program = torch.export.load(io.BytesIO(path.read_bytes()))  # given a path, it requires the ending .pt2
        if device.type != "cpu":
            program = move_to_device_pass(program, device)
        return program.module()
