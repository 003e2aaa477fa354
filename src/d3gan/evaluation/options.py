"""Flags of ``d3gan evaluate``. Imports no torch, so that its help appears at once."""

from dataclasses import dataclass
from typing import Literal

import tyro

from d3gan.config.train_config import check_metrics
from d3gan.config.validation import check_values
from d3gan.errors import ConfigError


@dataclass(frozen=True)
class Evaluate:
    """Measure a run's generator, or a folder of images, against real images: FID, IS, KID, precision and recall."""

    run: tyro.conf.Positional[str] = ""
    """Run directory, or a generator.safetensors. Leave it out with --images."""
    images: str = ""
    """Measure these images instead of a generator's: a folder, a .zip, or NAME:SPLIT such as cifar10:train."""
    reference: str = "train"
    """Real images to compare with: train or test of the run's data set, NAME:SPLIT, a folder, .zip or .npz."""
    metrics: str = "fid,is,kid,prdc"
    """Metrics to compute; prdc stands for precision, recall, density and coverage."""
    num_samples: int = 0
    """Number of fake images. 0: 50,000 for a generator, all of --images."""
    features: str = "auto"
    """inception, efficientnet-lite0, a file (TorchScript, ExportedProgram), or auto: inception if available."""
    inception_weights: str = ""
    """File of the Inception weights, pt_inception-2015-12-05-6726825d.pth. Empty: search for it, else download it."""
    generator: Literal["auto", "ema", "raw"] = "auto"
    """Weights to measure: ema (the moving average), raw (the last step's), auto (ema if the run has it)."""
    protocol: Literal["standard", "published"] = "standard"
    """published also computes FID as the published programs did (64 features, one batch)."""
    bootstrap: int = 0
    """Bootstrap replicates for 95 % intervals, such as 100. 0: no intervals."""
    seed: int | Literal["run"] = "run"
    """Seed of the latents; run: the run's own seed, which evaluations during training use."""
    image_size: int = 0
    """Resize --images and their reference to this many pixels a side. 0: the size of the first of --images."""
    save_reference: str = ""
    """Write the reference's statistics (mu, sigma) to this .npz, for a later --reference or other FID programs."""
    json: bool = False
    """Print one JSON object instead of a table."""
    data_dir: str = ""
    """Folder of the data files. Empty: $D3GAN_DATA, else the user's cache folder."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps; under torchrun each process uses its own GPU."""
    debug: bool = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        """Checks types, ranges, and flags that exclude each other."""
        ranges = {"bootstrap": (0, 100_000), "image_size": (0, 4096), "seed": (0, 2**63 - 1)}
        check_values(self, ranges | {"num_samples": (0, 10_000_000)})
        check_metrics(self.metrics)
        if self.num_samples == 1 or self.bootstrap == 1:
            raise ConfigError(
                "num_samples and bootstrap: must be 0 or at least 2; one image or replicate has no statistics"
            )
        if bool(self.run) == bool(self.images):
            raise ConfigError("give either RUN or --images")
        if self.images and self.reference == "train":
            raise ConfigError(
                "--images needs --reference: NAME:SPLIT such as cifar10:test, a folder (write ./train for one called "
                "train), .zip or .npz"
            )
        if self.images and self.protocol == "published":
            raise ConfigError("--protocol published: is defined for a run's generator; give RUN, not --images")
        if self.run and self.image_size:
            raise ConfigError("--image-size: is for --images only; a generator's images have a fixed size")
        if self.save_reference and not self.save_reference.endswith(".npz"):
            raise ConfigError(f"--save-reference {self.save_reference}: the name must end in .npz")
