"""The options of ``d3gan watch``. Imports no torch, so that the help appears at once."""

from dataclasses import dataclass

from d3gan.config.shared_flags import Debug
from d3gan.config.validation import check_values, key


@dataclass(frozen=True)
class Watch:
    """Show runs while they train, as a page on this machine: samples, losses, FID, time left."""

    run: str
    """Run directory, or a folder that holds some; runs that begin later appear by themselves."""
    port: int = key(0, allowed=(0, 65535))
    """Port of the page on 127.0.0.1. 0: a free one."""
    open: bool = False
    """Open the page in the browser."""
    debug: Debug = False

    def __post_init__(self) -> None:
        """Checks types and ranges."""
        check_values(self)
