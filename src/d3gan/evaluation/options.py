"""Flags of ``d3gan evaluate``. Imports no torch, so that its help appears at once."""

from dataclasses import dataclass
from typing import Literal

import tyro

from d3gan.config.datasets import METRICS
from d3gan.config.shared_flags import (
    DataDir,
    Debug,
    Device,
    Features,
    GeneratorWeights,
    InceptionWeights,
    Protocol,
    SkipDamaged,
)
from d3gan.config.train_config import check_metrics
from d3gan.config.validation import check_values, key
from d3gan.errors import ConfigError


@dataclass(frozen=True)
class Evaluate:
    """Measure a run's generator, or a folder of images, against real images: FID, IS, KID, precision and recall."""

    run: tyro.conf.Positional[str] = ""
    """Run directory, or a generator.safetensors. Leave it out with --images."""
    images: str = ""
    """Measure these images instead of a generator's: a folder, .zip or .npz, or NAME:SPLIT such as cifar10:train."""
    reference: str = "train"
    """Real images to measure against: train or test of the run's data set, NAME:SPLIT, a folder, .zip or .npz."""
    metrics: str = key("auto", list_of=("auto", *METRICS))
    """Metrics to compute; prdc stands for precision, recall, density, coverage and authenticity. auto: all that apply
    to the run's data set; modes to those whose modes are known."""
    num_samples: int = key(0, allowed=(0, 10_000_000))
    """Number of fake images. 0: 50,000 for a generator, all of --images."""
    features: Features = "auto"
    inception_weights: InceptionWeights = ""
    generator: GeneratorWeights = "auto"
    protocol: Protocol = "standard"
    per_class: bool = False
    """Compute FID for each class too, of a run with --conditional; few images of each bias it upwards."""
    bootstrap: int = key(0, allowed=(0, 100_000))
    """Bootstrap replicates for 95 % intervals, such as 100. 0: no intervals."""
    seed: int | Literal["run"] = key("run", allowed=(0, 2**63 - 1))
    """Seed of the latents; run: the run's own seed, which evaluations during training use."""
    image_size: int = key(0, allowed=(0, 4096))
    """Resize --images and their reference to this many pixels a side. 0: the usual size of --images."""
    save_reference: str = ""
    """Write the reference's statistics (mu, sigma) to this .npz, for a later --reference or other FID programs."""
    json: bool = False
    """Print one JSON object instead of a table."""
    skip_damaged: SkipDamaged = False
    data_dir: DataDir = ""
    device: Device = "auto"
    debug: Debug = False

    def __post_init__(self) -> None:
        """Checks types, ranges, and flags that exclude each other."""
        check_values(self)
        if self.metrics != "auto":
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
        if self.per_class and (self.images or self.reference.lower().endswith(".npz")):
            raise ConfigError(
                "--per-class: needs RUN with classes, and real images with labels as the reference; leave out "
                "--images and references in .npz"
            )
        if self.per_class and self.metrics != "auto" and "fid" not in check_metrics(self.metrics):
            raise ConfigError(f"--per-class: computes FID, and --metrics {self.metrics} does not; add fid")
        if self.run and self.image_size:
            raise ConfigError("--image-size: is for --images only; a generator's images have a fixed size")
        if self.save_reference and not self.save_reference.endswith(".npz"):
            raise ConfigError(f"--save-reference {self.save_reference}: the name must end in .npz")
