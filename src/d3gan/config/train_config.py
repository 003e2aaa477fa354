"""The config of a training run: one frozen dataclass, read from an .ini file, with flags over it.

Each field is an .ini key and a flag; its docstring is the flag's help, and ``key`` declares its rules. Imports no
torch, so that ``d3gan --help`` answers at once.
"""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from d3gan.config.combinations import (
    AugmentKey,
    PenaltyKey,
    augment_text,
    parse_augment,
    parse_penalties,
    parse_views,
    penalty_text,
    refuse_meaningless,
)
from d3gan.config.datasets import METRICS, POINT_SETS, SET_NAMES, metrics_that_apply
from d3gan.config.recipes import MODELS, Activation, Loss, Model, Pairing, Recipe, Schedule, Sharded, Weighting
from d3gan.config.shared_flags import (
    DataDir,
    Device,
    Features,
    GeneratorWeights,
    InceptionWeights,
    Precision,
    Protocol,
    SkipDamaged,
)
from d3gan.config.validation import check_values, field_types, key, keys_with
from d3gan.errors import ConfigError, nearest
from d3gan.files import user_path
from d3gan.models.widths import IMAGE_SIZES

# Text that an .ini file would not give back: control characters, halves of characters (undecodable bytes of a file
# name), comments.
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]|(^|\s)[#;]")
# A number that may be left empty; of the discriminators: as the generator's.
_AsGenerators = Annotated[float | Literal[""], arg(metavar="FLOAT")]
_OfDataSet = Annotated[float | Literal[""], arg(metavar="FLOAT")]
Network = Literal["dcgan", "sndcgan", "resnet", "r3gan", "mlp"]
# Of the discriminators, with discriminator_norm = auto.
USUAL_NORMS: dict[str, Literal["batch", "spectral", "none"]] = {
    "dcgan": "batch",
    "sndcgan": "spectral",
    "resnet": "spectral",
    "r3gan": "none",
    "mlp": "none",
}
TRACKERS = ("tensorboard", "wandb", "mlflow")
"""What ``track`` may name; see ``d3gan.training.trackers``."""
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:[0-9]{1,9})?")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run. Values are checked when the object is made.

    The defaults are those of the original D3GAN program's config.ini. A key with the value ``model`` takes the value
    of the model's recipe; ``recipe`` holds the result. The upper limits stop typing errors before they ask for
    terabytes; the method has no such limits.

    Raises:
        ConfigError: a value has the wrong type or is out of range; the message names the key.
    """

    model: Model = "d3gan"
    """GAN to train (`d3gan models`); the -controlled pair differs in the second discriminator alone."""
    dataset: str = key("mnist", resume="free", per_process=True)
    """Name of a data set (`d3gan data list`), or the path of a folder or .zip of images."""
    data_dir: DataDir = key("", resume="free", per_process=True)
    radius: _OfDataSet = key("", allowed=(0.000001, 1_000_000.0))
    """ring8: radius of the circle; grid25: half its side. Empty: 1 and 4."""
    deviation: _OfDataSet = key("", allowed=(0.000001, 1_000_000.0))
    """ring8, grid25: standard deviation of each mode. Empty: 0.01 and 0.05."""
    skip_damaged: SkipDamaged = key(False, resume="free")
    out: str = key("", resume="free")
    """Run directory. Default: runs/DATASET-MODEL-bBATCH-sSEED. If it holds this run already, training resumes it."""
    image_size: int = key(32, allowed=frozenset(side for sides in IMAGE_SIZES.values() for side in sides))
    """Side of the square images in pixels: 16, 32, 64, 128 or 256, with sndcgan and resnet also 48."""
    # At least 2: BatchNorm over one image would compare it with itself.
    batch_size: int = key(128, allowed=(2, 1_000_000), resume="free if sharded")
    """Real images that go through a network at once, per process; sharded = on divides them among discriminators."""
    grad_accum_steps: int = key(1, allowed=(1, 1_000_000), resume="free")  # see d3gan.training.checkpointing.resume
    """Gradient-accumulation steps per process; about 6 % more compute."""
    nz: int = key(100, allowed=(1, 1_000_000))
    """Numbers in a latent vector."""
    network: Literal["auto", Network] = "auto"
    """Layers of the networks: dcgan, sndcgan, resnet or r3gan for images, mlp for points in the plane. auto: dcgan
    or mlp, as the data needs."""
    ngf: int = key(64, allowed=(1, 10_000))
    """Width of the generator: channels (mlp: units) of its last hidden layer."""
    ndf: int = key(64, allowed=(1, 10_000))
    """Width of each discriminator: channels (mlp: maxout units) of its first layer."""
    conditional: bool = False
    """Networks with classes: the images' labels go into generator and discriminators, samples are made by class."""
    nc: int = key(3, allowed=frozenset({1, 3}))
    """Image channels: 1 (grey) or 3 (colour; grey data sets become three equal channels)."""
    lr: float = key(0.0002, allowed=(0.0, None))
    """Learning rate of Adam; the discriminators' too, unless lr_d is set."""
    lr_scaling: Literal["none", "linear"] = "none"
    """linear multiplies lr and lr_d by the number of batches per step, processes times grad_accum_steps."""
    beta1: float = key(0.5, allowed=(0.0, 0.999999))
    """Adam's decay rate of the first moment; the discriminators' too, unless beta1_d is set."""
    beta2: float = key(0.999, allowed=(0.0, 0.999999))
    """Adam's decay rate of the second moment; the discriminators' too, unless beta2_d is set."""
    lr_d: _AsGenerators = key("", allowed=(0.0, None))
    """Learning rate of the discriminators. Empty: as the generator's."""
    beta1_d: _AsGenerators = key("", allowed=(0.0, 0.999999))
    """The discriminators' beta1. Empty: as the generator's."""
    beta2_d: _AsGenerators = key("", allowed=(0.0, 0.999999))
    """The discriminators' beta2. Empty: as the generator's."""
    d_steps: int = key(1, allowed=(1, 100))
    """Updates of the discriminators per update of the generator, each on real images of its own."""
    epochs: int = key(10, allowed=(1, None), resume="free unless it counts")
    """Passes over the training images."""
    max_steps: int = key(0, allowed=(0, None), resume="free")
    """End the run after this many steps. 0: train all epochs."""
    discriminators: int | Literal["model"] = key("model", allowed=(1, 64))
    """Number K of discriminators, 1 to 64."""
    pairing: Pairing | Literal["model"] = "model"
    """Whose fake loss is added to discriminator k's real loss: swapped takes k+1's (modulo K), own takes k's."""
    weighting: Weighting | Literal["model"] = "model"
    """Who trains the generator: the discriminator with the largest (argmax) or smallest paired loss, or several."""
    softmax_lambda: float | Literal["learned"] = key(1.0, allowed=(0.0, 1_000_000.0))
    """weighting = softmax: how sharply it prefers a large generator loss; 0 is the mean, learned is GMAN*."""
    softmax_gradient: bool = True
    """weighting = softmax: differentiate the generator's loss with respect to the weights too, as GMAN does."""
    softmax_challenge: float = key(0.001, allowed=(0.0, None))
    """softmax_lambda = learned: what a larger lambda earns the generator. 0: as GMAN's program."""
    hypervolume_slack: float = key(1.5, allowed=(1.000001, None))
    """weighting = hypervolume: above 1; near 1 only the largest loss counts, far above all count alike."""
    dropout_rate: float = key(0.5, allowed=(0.0, 1.0))
    """weighting = dropout: probability that a discriminator does not count in a step."""
    bandit_alpha: float = key(0.8, allowed=(0.0, 1.0))
    """weighting = bandit: share of the last step's reward in the average of rewards."""
    bandit_kappa: float = key(15.0, allowed=(0.0, 1_000_000.0))
    """weighting = bandit: how sharply it prefers discriminators against which the generator makes progress."""
    loss: Loss | Literal["model"] = "model"
    """Adversarial loss of discriminators and generator."""
    d2gan_alpha: float = key(0.2, allowed=(0.000001, 1.0))
    """loss = d2gan: weight of the first discriminator's reward for real images."""
    d2gan_beta: float = key(0.1, allowed=(0.000001, 1.0))
    """loss = d2gan: weight of the second discriminator's reward for fake images."""
    views: str = key("model", list_of=())
    """What discriminators see and are: same for all, or some of slice, projection, width, dropout."""
    microbatch_alpha: float | Literal["model"] = key("model", allowed=(0.0, None))
    """views = slice: weight, growing from 0 over the run, of telling own fake images from those of other slices."""
    duel_beta: float | Literal["model"] = key("model", allowed=(0.0, None))
    """Weight, at the middle of the run, of DuelGAN's term: discriminators agree on the same images. 0: no duel."""
    duel_alpha: float | Literal["model"] = key("model", allowed=(0.0, None))
    """duel_beta above 0: weight in the duel, at the middle of the run, against agreeing on different images."""
    penalty: str = key("", list_of=())
    """Regularisers of the discriminators, each NAME, NAME:WEIGHT or NAME:WEIGHT:EVERY (steps): gp, r1, r2, lecam."""
    lecam_start: int = key(1000, allowed=(0, None))
    """Steps before penalty = lecam begins."""
    flips: bool = False
    """Show each real image mirrored left to right in half of the steps. Evaluations take them as they are."""
    augment: str = key("", list_of=())
    """Change all images that the discriminators see: some of color, translation, cutout (DiffAugment); or ada, or
    ada: with some of blit, geom, color, filter, noise, cutout. Empty: no change."""
    ada_target: float = key(0.6, allowed=(-1.0, 1.0))
    """augment = ada: mean sign of the logits of real images above which it changes more of them."""
    ada_length: int = key(500_000, allowed=(1, None))
    """augment = ada: real images in which the probability p of each change can go from 0 to 1."""
    ada_p: _AsGenerators = key("", allowed=(0.0, 1.0))
    """augment = ada: a fixed p. Empty: p follows the discriminators."""
    ada_ramp_up: int = key(0, allowed=(0, None))
    """ada_p: real images in which p grows from 0 to it, as a cosine. 0: it is ada_p from the start."""
    discriminator_norm: Literal["auto", "batch", "spectral", "none"] = "auto"
    """Normalisation of the discriminators: BatchNorm, spectral normalisation of the weights, or none. auto: batch
    for dcgan, spectral for sndcgan and resnet, none for r3gan and mlp."""
    activation: Activation | Literal["model"] = "model"
    """The generator's activation; r3gan has leaky ReLU whatever the model's recipe says."""
    schedule: Schedule | Literal["model"] = "model"
    """Learning rate over the run: constant, or falling to 0 at the end of the last epoch, as a line or a cosine."""
    sharded: Sharded | Literal["model"] = "model"
    """on: each discriminator has a process, or a part of one, and a shard of the images to itself (MD-GAN)."""
    swap_every: int = key(1, allowed=(0, None))
    """sharded = on: epochs after which discriminators change places at random, in pairs. 0: never."""
    checkpoint: int = key(200, allowed=(1, None), resume="free")
    """Steps between checkpoints; the last two are kept."""
    log_every: int = key(50, allowed=(1, None), resume="free")
    """Steps between two lines of metrics.jsonl."""
    diagnostics: bool = key(True, resume="free")
    """Measure with each line how the discriminators fare: what they distinguish, how far they agree."""
    sample_every: int = key(0, allowed=(0, None), resume="free")
    """Steps between sample grids; there is also one at the start and one at the end. 0: one after each epoch."""
    workers: int = key(2, allowed=(1, 256), resume="free", per_process=True)
    """Threads that decode a folder or .zip of images, the first time it is read."""
    seed: int = key(0, allowed=(0, 2**63 - 1))
    """Random seed of the weights, the order of the images and the latents."""
    device: Device = key("auto", resume="free")
    precision: Precision = "auto"
    deterministic: bool = True
    """Let cuDNN use only algorithms that repeat bit for bit. Off lets it pick faster ones on a GPU."""
    compile: Literal["auto", "on", "off"] = key("auto", resume="free")
    """Compile the networks with torch.compile; auto is off, since compiled networks were slower on CPUs."""
    cuda_graph: Literal["auto", "on", "off"] = key("auto", resume="free")
    """Record the step as one CUDA graph and replay it, with one process; auto is off, not yet measured on a GPU."""
    sync_batchnorm: bool = False
    """Normalise over the batches of all processes together, not over each alone. GPUs only."""
    timeout: int = key(600, allowed=(1, 10_000_000), resume="free")
    """Seconds after which the processes of a run stop if one of them hangs."""
    ema: float = key(0.0, allowed=(0.0, 0.999999))
    """Decay per step of a moving average of the generator's weights, such as 0.999. 0: keep no average."""
    ema_half_life: int = key(0, allowed=(0, None))
    """Half-life of that average in real images, instead of ema: the same for every batch size. 0: keep none."""
    ema_ramp_up: float = key(0.05, allowed=(0.0, None))
    """The half-life is at most this share of the images seen so far. 0: no such limit."""
    evaluate_every: int = key(0, allowed=(0, None), resume="free")
    """Steps between evaluations of the generator, in addition to one at the end. 0: never evaluate."""
    num_samples: int = key(10_000, allowed=(2, 10_000_000), resume="free")
    """Fake images per evaluation."""
    metrics: str = key("auto", resume="free", list_of=("auto", *METRICS))
    """Metrics to compute: any of fid, is, kid, prdc (precision, recall, density, coverage, authenticity), and modes
    (modes found, high-quality share, reverse KL) where the data's modes are known. auto: modes there, else fid,is."""
    reference: str = key("train", resume="free")
    """Real images to evaluate against: a split of the data set (train, test), NAME:SPLIT, a folder, .zip or .npz."""
    features: Features = key("auto", resume="free")
    inception_weights: InceptionWeights = key("", resume="free", per_process=True)
    generator: GeneratorWeights = key("auto", resume="free")
    protocol: Protocol = key("standard", resume="free")
    track: str = key("", resume="free", list_of=TRACKERS)
    """Send metrics, samples, histograms and settings to trackers too: some of tensorboard, wandb, mlflow, each of
    which is an extra of d3gan to install (docs/tracking.md)."""
    tensorboard: bool = key(False, resume="free")
    """The same as --track tensorboard: events in the run directory."""

    def __post_init__(self) -> None:
        """Checks types, then ranges, then text."""
        check_values(self)
        for name in (name for name, hint in field_types(TrainConfig).items() if hint is str):
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
        if self.metrics != "auto":
            check_metrics(self.metrics)
        # One text for what means the same.
        if self.dataset.lower() in SET_NAMES:
            object.__setattr__(self, "dataset", self.dataset.lower())
        object.__setattr__(self, "track", ",".join(_words("track", self.track, TRACKERS)))
        object.__setattr__(self, "penalty", penalty_text(self.penalties))
        object.__setattr__(self, "augment", augment_text(self.augmentation))
        if self.views != "model":
            object.__setattr__(self, "views", ",".join(parse_views(self.views)) or "same")
        refuse_meaningless(self)

    @property
    def recipe(self) -> Recipe:
        """The model's recipe, with what this config overrides in it."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(Recipe)}
        return dataclasses.replace(MODELS[self.model], **{k: v for k, v in values.items() if v != "model"})

    @property
    def makes_points(self) -> bool:
        """Whether the samples are points in the plane, not images."""
        return self.dataset in POINT_SETS

    @property
    def resolved_network(self) -> Network:
        """``network``, or what the data needs."""
        if self.network != "auto":
            return self.network
        return "mlp" if self.makes_points else "dcgan"

    @property
    def resolved_norm(self) -> Literal["batch", "spectral", "none"]:
        """``discriminator_norm``, or the network's usual one."""
        if self.discriminator_norm != "auto":
            return self.discriminator_norm
        return USUAL_NORMS[self.resolved_network]

    @property
    def resolved_precision(self) -> str:
        """``precision``; of points ``auto`` is float32, since bf16 has too few digits for where they lie."""
        return "float32" if self.precision == "auto" and self.makes_points else self.precision

    @property
    def resolved_metrics(self) -> tuple[str, ...]:
        """The metrics to compute."""
        if self.metrics != "auto":
            return check_metrics(self.metrics)
        apply = metrics_that_apply(self.dataset)
        return ("modes",) if "modes" in apply else ("fid", "is")

    @property
    def trackers(self) -> tuple[str, ...]:
        """The trackers that ``track`` and ``tensorboard`` name."""
        return _words("track", f"{self.track},tensorboard" if self.tensorboard else self.track, TRACKERS)

    @property
    def penalties(self) -> tuple[PenaltyKey, ...]:
        """The regularisers that ``penalty`` names."""
        return parse_penalties(self.penalty)

    @property
    def augmentation(self) -> AugmentKey:
        """What ``augment`` names."""
        return parse_augment(self.augment)

    @property
    def view_names(self) -> tuple[str, ...]:
        """In what the discriminators differ: none for ``views = same``."""
        return parse_views(self.recipe.views)

    @property
    def follows_the_run(self) -> bool:
        """Whether a term's weight depends on the share of the run that is done."""
        return self.recipe.microbatch_alpha > 0 or self.recipe.duel_beta > 0

    @property
    def discriminator_adam(self) -> tuple[float, float, float]:
        """Learning rate, beta1 and beta2 of the discriminators."""
        return (
            self.lr if self.lr_d == "" else self.lr_d,
            self.beta1 if self.beta1_d == "" else self.beta1_d,
            self.beta2 if self.beta2_d == "" else self.beta2_d,
        )

    @property
    def averages(self) -> bool:
        """Whether a moving average of the generator is kept."""
        return self.ema > 0 or self.ema_half_life > 0

    @property
    def images_per_step(self) -> int:
        """Real images that one process takes per step."""
        return self.batch_size * self.grad_accum_steps * self.d_steps

    @property
    def free_keys(self) -> frozenset[str]:
        """The keys that may have another value when this run is resumed."""
        counts, sharded = self.recipe.schedule != "constant" or self.follows_the_run, self.recipe.sharded == "on"
        free = FREE_KEYS | (set() if counts else keys_with(TrainConfig, resume="free unless it counts"))
        return free | (keys_with(TrainConfig, resume="free if sharded") if sharded else set())

    @property
    def bound_values(self) -> dict[str, object]:
        """The keys that a resumed run must share, with their values."""
        free = self.free_keys
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in free}

    @property
    def run_directory(self) -> Path:
        """Folder of the run: ``out``, or a name made of data set, model, batch size and seed."""
        if self.out:
            return user_path(self.out)
        return Path("runs") / f"{self.dataset_name}-{self.model}-b{self.batch_size}-s{self.seed}"

    @property
    def dataset_name(self) -> str:
        """The data set's name, or that of the folder or .zip of images without its path."""
        path = user_path(self.dataset)
        return path.resolve().name if path.is_dir() else path.stem if path.suffix.lower() == ".zip" else path.name


# The keys that never bind a resumed run: they decide where and how long it trains and how it is evaluated, not what a
# step computes. Another device rounds differently, and the loop says so; the images are compared by their checksum,
# whatever the data set is called. ``TrainConfig.free_keys`` adds those that are free under a condition.
FREE_KEYS = keys_with(TrainConfig, resume="free")
# The keys that may differ between the processes of a run: they say where files are on a host.
PER_PROCESS_KEYS = keys_with(TrainConfig, per_process=True)


def check_metrics(text: str) -> tuple[str, ...]:
    """The metrics that a list such as ``fid,is`` names, in the order of ``METRICS``.

    Raises:
        ConfigError: none is named, or an unknown one.
    """
    metrics = _words("metrics", text, METRICS)
    if not metrics:
        raise ConfigError(f"metrics is empty; allowed: {','.join(METRICS)}, or some of them")
    return metrics


def _words(name: str, text: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """The words of a key's list with commas, in the order of the allowed ones.

    Raises:
        ConfigError: an unknown one.
    """
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in allowed:
            known = f"{nearest(word, allowed)}; allowed: {','.join(allowed)}"
            raise ConfigError(f"{name} = {text}: {word!r} is unknown{known}")
    return tuple(word for word in allowed if word in words)
