"""Flags of ``d3gan export``. Imports no torch, so that its help appears at once."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from d3gan.config.shared_flags import DataDir, Debug
from d3gan.config.validation import check_values, key
from d3gan.errors import ConfigError

Format = Literal["safetensors", "onnx", "html", "hub"]

# Flag -> the only format that reads it.
_OF_ONE_FORMAT = {"runtime": "html", "seed": "html", "data_dir": "html", "license": "hub"}


@dataclass(frozen=True)
class Export:
    """Write a run's generator for others: weights, ONNX, a page to play with, a folder for the Hugging Face hub."""

    run: str
    """Run directory, or a generator.safetensors."""
    format: Format = "safetensors"
    """onnx needs d3gan[onnx]; its batch size is free, and with classes it has an input labels. html needs it too: one
    file that computes in the browser and asks nothing of any network. hub: model card, weights, config, samples."""
    out: str = ""
    """File to write, of hub a folder. Default: generator-export.FORMAT, of hub the folder hub, in the run
    directory."""
    seed: int = key(0, allowed=(0, 2**63 - 1))
    """html: seed of the latents that the page starts with, those of `d3gan sample --seed`."""
    runtime: str = ""
    """html: folder that holds the files of onnxruntime-web, instead of fetching them once into the data folder."""
    data_dir: DataDir = ""
    license: str = ""
    """hub: licence of the weights as the hub names it, such as mit or cc-by-4.0. Default: the card names none."""
    debug: Debug = False

    def __post_init__(self) -> None:
        """Checks types and ranges, and that each flag goes with the format."""
        check_values(self)
        for name, only in _OF_ONE_FORMAT.items():
            if getattr(self, name) and self.format != only:
                flag = f"--{name.replace('_', '-')}"
                raise ConfigError(f"{flag} {getattr(self, name)}: goes with --format {only} alone; leave it out")
        if self.format == "html" and self.out and Path(self.out).suffix.lower() not in (".html", ".htm"):
            raise ConfigError(f"--out {self.out}: the page's name must end in .html")
        if self.license and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.license):
            raise ConfigError(
                f"--license {self.license}: must be an identifier of the hub, of small letters, digits, . and -, "
                "such as mit, apache-2.0, cc-by-4.0, cc0-1.0 or other"
            )
