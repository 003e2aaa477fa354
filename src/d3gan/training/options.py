"""The flags of ``d3gan train``. Imports no torch, so that its help answers at once."""

from dataclasses import dataclass
from typing import ClassVar

from d3gan.config.help import Help
from d3gan.config.shared_flags import ConfigFile, Debug, Preset, TrustFeatures
from d3gan.config.train_config import TrainConfig
from d3gan.config.train_help import GROUPS, SOURCE_FLAGS, USUAL
from d3gan.distributed.launcher import Launch, check_launch


@dataclass(frozen=True)
class Train(Launch, TrainConfig):
    """Train a GAN, or resume the run in its run directory. Flags override the config file or preset."""

    HELP: ClassVar[Help] = Help(
        {"config": SOURCE_FLAGS, **GROUPS}
        | {"launch": "workers_per_node nnodes rdzv_endpoint rdzv_id max_restarts debug"},
        USUAL,
        (
            "--model dcgan --dataset cifar10",
            "--dataset my-photos.zip --image-size 64 --evaluate-every 1000",
            "--preset mnist-demo --out runs/mine",
            "--workers-per-node auto",
        ),
    )

    config: ConfigFile = ""
    preset: Preset = ""
    trust_features: TrustFeatures = False
    debug: Debug = False

    def __post_init__(self) -> None:
        """Checks the config and the flags of the launcher."""
        super().__post_init__()
        check_launch(self)
