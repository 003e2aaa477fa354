"""What a training run is told: one frozen dataclass, read from an .ini file, with flags over it.

Importing this module imports no torch, so that ``d3gan --help`` answers at once.
"""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from d3gan.config.validation import Range, check_values
from d3gan.errors import ConfigError, nearest

Pairing = Literal["swapped", "own"]
Selection = Literal["argmax", "argmin"]
Activation = Literal["relu", "mish", "leaky_relu"]
Schedule = Literal["constant", "linear"]


@dataclass(frozen=True)
class Recipe:
    """What makes one GAN of the family differ from another; everything else is shared by all of them."""

    discriminators: int
    pairing: Pairing
    selection: Selection
    activation: Activation
    schedule: Schedule


# Published programs (2023): DCGAN trains with ReLU and a learning rate that falls linearly to 0, D3GAN with Mish and
# a constant one. The controlled pair takes both confounders out: its members differ in the number of
# discriminators alone (with one discriminator, swapping its error with itself changes nothing).
MODELS: dict[str, Recipe] = {
    "d3gan": Recipe(2, "swapped", "argmax", "mish", "constant"),
    "dcgan": Recipe(1, "swapped", "argmax", "relu", "linear"),
    "d3gan-controlled": Recipe(2, "swapped", "argmax", "relu", "constant"),
    "dcgan-controlled": Recipe(1, "swapped", "argmax", "relu", "constant"),
}

# What an evaluation can compute.
METRICS = ("fid", "is", "kid", "prdc")
# What would not read back: control characters, halves of characters (undecodable bytes of a file name), comments.
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]|(^|\s)[#;]")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:[0-9]{1,9})?")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run. Values are checked when the object is made.

    The defaults are the published selection (config.ini of the D3GAN program). A key that says ``model`` takes what
    the model's recipe says; ``recipe`` holds the outcome.

    Raises:
        ConfigError: a value has the wrong type or is out of range; the message names the key.
    """

    model: Literal["d3gan", "dcgan", "d3gan-controlled", "dcgan-controlled"] = "d3gan"
    """GAN to train: d3gan and dcgan as published; the -controlled pair differs in the second discriminator alone."""
    dataset: str = "mnist"
    """Name of a data set (`d3gan data list`), or the path of a folder or .zip of images."""
    data_dir: str = ""
    """Folder of the data files. Empty: $D3GAN_DATA, else the user's cache folder."""
    out: str = ""
    """Run directory. Empty: runs/DATASET-MODEL-bBATCH-sSEED. A run found there goes on where it stopped."""
    image_size: int = 32
    """Side of the square images in pixels: 16, 32, 64, 128 or 256."""
    batch_size: int = 128
    """Real images that go through a network at once, for each process."""
    grad_accum_steps: int = 1
    """Batches of each process whose gradients make one step: large steps on little memory, at 6 % more work."""
    nz: int = 100
    """Numbers in a latent vector."""
    ngf: int = 64
    """Width of the generator: channels of its last hidden layer."""
    ndf: int = 64
    """Width of each discriminator: channels of its first layer."""
    nc: int = 3
    """Image channels: 1 (grey) or 3 (colour; grey data sets become three equal channels)."""
    lr: float = 0.0002
    """Learning rate of Adam, generator and discriminators."""
    lr_scaling: Literal["none", "linear"] = "none"
    """linear multiplies lr by the number of batches a step, processes times grad_accum_steps."""
    beta1: float = 0.5
    """Adam's decay rate of the first moment."""
    beta2: float = 0.999
    """Adam's decay rate of the second moment."""
    epochs: int = 10
    """Passes over the training images."""
    max_steps: int = 0
    """End the run after this many steps. 0: train all epochs."""
    discriminators: int | Literal["model"] = "model"
    """Number K of discriminators, 1 to 64."""
    pairing: Pairing | Literal["model"] = "model"
    """Whose fake error joins discriminator k's real error: swapped takes k+1's (modulo K), own takes k's."""
    selection: Selection | Literal["model"] = "model"
    """Which discriminator trains the generator: the one of largest (argmax) or smallest (argmin) paired error."""
    activation: Activation | Literal["model"] = "model"
    """The generator's activation."""
    schedule: Schedule | Literal["model"] = "model"
    """Learning rate over the run: constant, or linear to 0 at the end of the last epoch."""
    checkpoint: int = 200
    """Steps between checkpoints; the last two are kept."""
    log_every: int = 50
    """Steps between two lines of metrics.jsonl."""
    sample_every: int = 0
    """Steps between sample grids, beside one after each epoch and one at the end. 0: no others."""
    workers: int = 2
    """Threads that decode a folder or .zip of images, the first time it is read."""
    seed: int = 0
    """Decides weights, order of images and latents."""
    device: str = "auto"
    """auto (cuda, else mps, else cpu), cpu, cuda, cuda:N or mps."""
    precision: Literal["auto", "bf16", "float32", "float64"] = "auto"
    """Arithmetic of the networks; auto is bf16 autocast where the hardware has it, else float32."""
    deterministic: bool = True
    """Have cuDNN use only algorithms that repeat bit for bit. Off lets it pick faster ones on a GPU."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the networks with torch.compile; auto is off, since it was slower where it was measured (CPUs)."""
    cuda_graph: Literal["auto", "on", "off"] = "auto"
    """Record the step as one CUDA graph and replay it, one process; auto is off, since no GPU was measured yet."""
    sync_batchnorm: bool = False
    """Normalise over the batches of all processes together, not each alone. GPUs only."""
    timeout: int = 600
    """Seconds after which several processes, of which one hangs, give up."""
    ema: float = 0.0
    """Decay a step of a moving average of the generator's weights, such as 0.999. 0: none is kept."""
    evaluate_every: int = 0
    """Steps between evaluations of the generator, beside one at the end. 0: never evaluate."""
    num_samples: int = 10_000
    """Fake images an evaluation."""
    metrics: str = "fid,is"
    """What an evaluation computes: fid, is, kid and prdc (precision, recall, density, coverage), with commas."""
    reference: str = "train"
    """Real images to evaluate against: a split of the data set (train, test), NAME:SPLIT, a folder, .zip or .npz."""
    features: str = "auto"
    """inception, efficientnet-lite0, a file (TorchScript, ExportedProgram), or auto: inception if it can be had."""
    inception_weights: str = ""
    """File of the Inception weights, pt_inception-2015-12-05-6726825d.pth. Empty: look for it, or fetch it."""
    generator: Literal["auto", "ema", "raw"] = "auto"
    """Weights to evaluate: ema (the moving average), raw (the last step's), auto (ema where one is kept)."""
    protocol: Literal["standard", "published"] = "standard"
    """published adds the published programs' own FID (64 features, one batch) beside the right one."""
    tensorboard: bool = False
    """Write TensorBoard events into the run directory too (needs d3gan[tensorboard])."""

    def __post_init__(self) -> None:
        """Checks types, then ranges."""
        check_values(self, _RANGES)
        for name in ("dataset", "data_dir", "out", "device", "metrics", "reference", "features", "inception_weights"):
            value = getattr(self, name)
            if value != value.strip() or _UNWRITABLE.search(value):
                raise ConfigError(
                    f"{name} = {value!r}: cannot be kept in an .ini file; it must be UTF-8 text without line breaks, "
                    "spaces at its ends, or a word that starts with # or ;"
                )
        if not self.dataset:
            raise ConfigError(
                "dataset is empty; give a name that `d3gan data list` shows, or a folder or .zip of images"
            )
        if not _DEVICE.fullmatch(self.device):
            raise ConfigError(f"device = {self.device!r}: must be auto, cpu, cuda, cuda:N or mps")
        check_metrics(self.metrics)
        if self.generator == "ema" and not self.ema:
            raise ConfigError("generator = ema: no moving average is kept; set ema too, such as ema = 0.999")

    @property
    def recipe(self) -> Recipe:
        """The model's recipe, with what this config overrides in it."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(Recipe)}
        return dataclasses.replace(MODELS[self.model], **{k: v for k, v in own.items() if v != "model"})

    @property
    def run_directory(self) -> Path:
        """Where the run is kept: ``out``, or a name made of what tells runs apart most."""
        if self.out:
            return Path(self.out)
        return Path("runs") / f"{self.dataset_name}-{self.model}-b{self.batch_size}-s{self.seed}"

    @property
    def dataset_name(self) -> str:
        """The data set's name, or that of the folder or .zip of images without its path."""
        path = Path(self.dataset).expanduser()
        return path.resolve().name if path.is_dir() else path.stem if path.suffix.lower() == ".zip" else path.name


# Smallest and largest (None: any) allowed value, or all the allowed values. The largest ones stop slips of the
# hand before they ask for terabytes; they are no limits of the method.
_RANGES: dict[str, Range] = {
    "image_size": frozenset({16, 32, 64, 128, 256}),
    "nc": frozenset({1, 3}),
    "batch_size": (2, 1_000_000),  # BatchNorm over one image would compare it with itself
    "grad_accum_steps": (1, 1_000_000),
    "timeout": (1, 10_000_000),
    "nz": (1, 1_000_000),
    "ngf": (1, 10_000),
    "ndf": (1, 10_000),
    "lr": (0.0, None),
    "beta1": (0.0, 0.999999),
    "beta2": (0.0, 0.999999),
    "epochs": (1, None),
    "max_steps": (0, None),
    "discriminators": (1, 64),
    "checkpoint": (1, None),
    "log_every": (1, None),
    "sample_every": (0, None),
    "ema": (0.0, 0.999999),
    "evaluate_every": (0, None),
    "num_samples": (2, 10_000_000),
    "workers": (1, 256),
    "seed": (0, 2**63 - 1),
}


def check_metrics(text: str) -> tuple[str, ...]:
    """The metrics that a list such as ``fid,is`` names, in the order of ``METRICS``.

    Raises:
        ConfigError: none is named, or an unknown one.
    """
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in METRICS:
            known = f"{nearest(word, METRICS)}; allowed: {','.join(METRICS)}"
            raise ConfigError(f"metrics = {text}: {word!r} is unknown{known}")
    if not words:
        raise ConfigError("metrics is empty; allowed: fid,is,kid,prdc, or some of them")
    return tuple(metric for metric in METRICS if metric in words)
