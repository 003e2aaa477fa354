"""Flags of ``d3gan sample``. Imports no torch, so that its help appears at once."""

from dataclasses import dataclass

from d3gan.config.shared_flags import Debug, Device
from d3gan.config.validation import check_values, key
from d3gan.errors import ConfigError


@dataclass(frozen=True)
class Sample:
    """Make images with a run's generator: an image grid, an interpolation, an animation, or an array."""

    run: str
    """Run directory, or a generator.safetensors."""
    num: int = key(64, allowed=(1, 10_000_000))
    """Number of images."""
    classes: tuple[str, ...] = ()
    """Classes to make, by name or number, of a run with --conditional; one row of the grid each. Default: all."""
    per_class: int = key(0, allowed=(0, 10_000_000))
    """Images of each class, instead of --num. 0: --num divided among the classes."""
    out: str = ""
    """File to write. Default: grid.png, interpolation.png or animation.gif in the run directory."""
    columns: int = key(0, allowed=(0, None))
    """Images per row. 0: as square as possible."""
    scale: int = key(1, allowed=(1, 64))
    """Enlarge the PNG this many times in both directions."""
    interpolate: bool = False
    """Make each row an interpolation from one random latent to another."""
    animate: bool = False
    """Animate the run's sample grids; .gif or .webp by the name of --out."""
    npz: str = ""
    """Write the images as an array instead: arr_0 (num, H, W, C) uint8, their latents (num, nz), and with classes
    their labels (num,), drawn like the data's unless --classes or --per-class is given."""
    seed: int = key(0, allowed=(0, 2**63 - 1))
    """Seed of the latents."""
    device: Device = "auto"
    debug: Debug = False

    def __post_init__(self) -> None:
        """Checks types and ranges."""
        check_values(self)
        chosen = [f"--{name}" for name in ("interpolate", "animate", "npz") if getattr(self, name)]
        if len(chosen) > 1:
            raise ConfigError(f"{' and '.join(chosen)}: give only one of them")
        if self.per_class and (self.interpolate or self.animate):
            raise ConfigError(f"--per-class and {chosen[0]}: give only one of them; --classes goes with both")
        if self.columns and (self.classes or self.per_class) and not self.interpolate:
            raise ConfigError(
                "--columns: with --classes or --per-class each row is a class; give --per-class instead"
            )
