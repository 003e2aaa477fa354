"""What ``d3gan sample`` and ``d3gan export`` are told. Imports no torch, so that their help answers at once."""

from dataclasses import dataclass
from typing import Literal

from d3gan.config.shared_flags import Debug, Device
from d3gan.config.validation import check_values, key
from d3gan.errors import ConfigError


@dataclass(frozen=True)
class Sample:
    """Make images with a run's generator: a grid, an interpolation, an animation, or an array."""

    run: str
    """Run directory, or a generator.safetensors."""
    num: int = key(64, allowed=(1, 10_000_000))
    """Number of images."""
    out: str = ""
    """File to write. Empty: grid.png, interpolation.png or animation.gif in the run directory."""
    columns: int = key(0, allowed=(0, None))
    """Images a row. 0: as square as can be."""
    scale: int = key(1, allowed=(1, 64))
    """Show each pixel of a grid as this many by this many."""
    interpolate: bool = False
    """Each row goes from one random latent to another."""
    animate: bool = False
    """Show the run's sample grids one after the other, .gif or .webp by the name of --out."""
    npz: str = ""
    """Write the images as an array instead: arr_0 (num, H, W, C) uint8, and their latents (num, nz)."""
    seed: int = key(0, allowed=(0, 2**63 - 1))
    """Decides the latents."""
    device: Device = "auto"
    debug: Debug = False

    def __post_init__(self) -> None:
        """Checks types and ranges."""
        check_values(self)
        chosen = [f"--{name}" for name in ("interpolate", "animate", "npz") if getattr(self, name)]
        if len(chosen) > 1:
            raise ConfigError(f"{' and '.join(chosen)}: give one of them at a time")


@dataclass(frozen=True)
class Export:
    """Write a run's generator as a file for other programs."""

    run: str
    """Run directory, or a generator.safetensors."""
    format: Literal["safetensors", "onnx"] = "safetensors"
    """onnx needs d3gan[onnx]; its batch size is free."""
    out: str = ""
    """File to write. Empty: generator-export.FORMAT in the run directory."""
    debug: Debug = False
