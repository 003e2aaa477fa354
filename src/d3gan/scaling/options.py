"""The options of ``d3gan scale``. Imports neither torch nor NumPy, so that the help appears at once."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from d3gan.config.command_line import values_under_flags
from d3gan.config.help import Help
from d3gan.config.recipes import MODELS
from d3gan.config.shared_flags import ConfigFile, Debug, Precision, Preset
from d3gan.config.train_config import TrainConfig
from d3gan.config.validation import check_values, key
from d3gan.distributed.launcher import Launch
from d3gan.distributed.rendezvous import Hosts, check_hosts
from d3gan.errors import ConfigError, nearest


@dataclass(frozen=True)
class Scale(Hosts):
    """Measure how training scales with the number of processes, and plot it."""

    HELP: ClassVar[Help] = Help(
        {
            "measurement": "workers mode batch_sizes models seconds rounds project published",
            "config": "config preset",
            "data": "dataset data_dir image_size",
            "training": "device precision timeout",
            "output": "out debug",
            "launch": "nnodes rdzv_endpoint rdzv_id",
        },
        {
            "workers": "numbers of processes, 1 among them",
            "mode": "weak or strong",
            "batch_sizes": "by default the config's",
            "models": "what to measure",
            "project": "project onto so many processes, such as 1024",
            "config": "read this .ini file",
            "preset": "or these values (`d3gan presets`)",
            "dataset": "by default the config's",
            "device": "auto, cpu or cuda",
            "out": "folder of scaling.json and the plots",
        },
        ("--workers 1 2 4", "--workers 1 2 --models d3gan --project 1024"),
    )

    workers: str = key("1,2", list_of=())
    """Numbers of processes to measure, 1 among them; each process has one GPU, if there are any."""
    mode: Literal["weak", "strong"] = "weak"
    """weak: each process has the batch size; strong: all processes together have it."""
    batch_sizes: str = key("", list_of=())
    """Batch sizes to measure. Default: the config's batch_size."""
    models: str = key("dcgan,d3gan", list_of=())
    """Models to measure."""
    seconds: float = key(5.0, allowed=(0.1, 3600))
    """Seconds per measurement, after its warm-up."""
    rounds: int = key(3, allowed=(1, 1000))
    """Number of rounds; each measures everything once. Results are medians, with the smallest and the largest."""
    project: int = key(0, allowed=(0, 1_000_000))
    """Project onto this many processes, such as 1024; this also measures all-reduces. 0: no projection."""
    published: bool = False
    """Also plot what the authors of the original D3GAN program logged on V100 GPUs."""
    out: str = "scaling"
    """Folder of scaling.json and the plots."""
    config: ConfigFile = ""
    preset: Preset = ""
    dataset: str = ""
    """Data set, or the path of a folder or .zip of images. Default: the config's."""
    data_dir: str = ""
    """Folder of the data files. Default: the config's, else $D3GAN_DATA, else the user's cache folder."""
    image_size: int = 0
    """Side of the square images in pixels. 0: the config's."""
    device: str = "auto"
    """auto (cuda, else cpu), cpu or cuda."""
    precision: Precision = "auto"
    timeout: int = key(600, allowed=(1, 10_000_000))
    """Seconds without progress after which the processes give up."""
    debug: Debug = False

    def __post_init__(self) -> None:
        """Checks types, ranges and lists."""
        check_values(self)
        check_hosts(self)
        if 1 not in self.numbers:
            raise ConfigError(f"--workers {self.workers}: must hold 1, which the others are compared with")
        if self.numbers[-1] % self.nnodes:
            raise ConfigError(f"--workers {self.workers}: the largest must be a multiple of --nnodes {self.nnodes}")
        if not self.model_names:
            raise ConfigError(f"--models is empty; allowed: {', '.join(MODELS)}")
        for name in self.model_names:
            if name not in MODELS:
                raise ConfigError(
                    f"--models: {name!r} is unknown{nearest(name, MODELS)}; allowed: {', '.join(MODELS)}"
                )
        if self.train_config.sync_batchnorm:
            raise ConfigError("sync_batchnorm = True: hides its exchanges among the computation; set it to False")
        if min(self.sizes_of(self.train_config)) < 2:
            raise ConfigError(f"--batch-sizes {self.batch_sizes}: must be at least 2")
        if self.project:
            require_projectable(self.mode, self.numbers, self.project)

    @property
    def numbers(self) -> list[int]:
        """Numbers of processes, in order."""
        return sorted(set(_numbers("--workers", self.workers)))

    def sizes_of(self, config: TrainConfig) -> list[int]:
        """Batch sizes, in order."""
        return sorted(set(_numbers("--batch-sizes", self.batch_sizes or str(config.batch_size))))

    @property
    def model_names(self) -> list[str]:
        """Models, as given."""
        return list(dict.fromkeys(word.strip() for word in self.models.split(",") if word.strip()))

    @property
    def train_config(self) -> TrainConfig:
        """The config of the .ini file or the preset, with the values of the flags.

        Raises:
            ConfigError: the file cannot be read, the preset is unknown, or a value is out of range.
        """
        source, values = values_under_flags(self.config, self.preset)
        try:
            config = TrainConfig(**values)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
        over = {name: getattr(self, name) for name in ("dataset", "data_dir", "image_size") if getattr(self, name)}
        return dataclasses.replace(config, device=self.device, precision=self.precision, timeout=self.timeout, **over)

    @property
    def launch(self) -> Launch:
        """The processes to start: the largest number of workers, divided among the hosts."""
        hosts = {field.name: getattr(self, field.name) for field in dataclasses.fields(Hosts)}
        return Launch(workers_per_node=self.numbers[-1] // self.nnodes, **hosts)


def _numbers(flag: str, text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ConfigError(f"{flag} {text}: must be whole numbers above 0 with commas, such as 1,2,4")
    return [int(word) for word in words]


def require_projectable(mode: str, workers: Sequence[int], upto: int) -> None:
    """Checks, before anything is measured, that a projection can be made.

    Raises:
        ConfigError: it cannot; the message says why.
    """
    if mode != "weak":
        raise ConfigError(
            f"--project {upto}: projects weak scaling, with the batch size of each process fixed; not --mode {mode}"
        )
    if max(workers) < 2:
        raise ConfigError(f"--project {upto}: needs an all-reduce measured: --workers must hold 2 or more")
    if upto <= max(workers):
        raise ConfigError(f"--project {upto}: must be more than the {max(workers)} workers measured")
