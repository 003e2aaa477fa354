"""What ``d3gan train`` is told. Imports no torch, so that its help answers at once."""

from dataclasses import dataclass

from d3gan.config.train_config import TrainConfig
from d3gan.distributed.launcher import Launch, check_launch


@dataclass(frozen=True)
class Train(Launch, TrainConfig):
    """Train a GAN, or go on with the run found in its run directory. Flags beat the config file or preset."""

    config: str = ""
    """The .ini file to read. Empty: config.ini in the current folder, where there is one."""
    preset: str = ""
    """Read this preset instead of an .ini file; `d3gan presets` lists them."""
    debug: bool = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        """Checks the config and the flags of the launcher."""
        super().__post_init__()
        check_launch(self)
