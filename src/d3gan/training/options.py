"""The flags of ``d3gan train``. Imports no torch, so that its help answers at once."""

from dataclasses import dataclass

from d3gan.config.shared_flags import ConfigFile, Debug, Preset, TrustFeatures
from d3gan.config.train_config import TrainConfig
from d3gan.distributed.launcher import Launch, check_launch


@dataclass(frozen=True)
class Train(Launch, TrainConfig):
    """Train a GAN, or resume the run in its run directory. Flags override the config file or preset."""

    config: ConfigFile = ""
    preset: Preset = ""
    trust_features: TrustFeatures = False
    debug: Debug = False

    def __post_init__(self) -> None:
        """Checks the config and the flags of the launcher."""
        super().__post_init__()
        check_launch(self)
