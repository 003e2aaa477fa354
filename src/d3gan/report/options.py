"""The options of ``d3gan report``. Imports neither torch nor matplotlib, so that the help appears at once."""

from dataclasses import dataclass
from pathlib import Path

from d3gan.config.shared_flags import Debug
from d3gan.errors import ConfigError


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page about runs: figures, samples through training, tables, commands."""

    runs: tuple[str, ...]
    """Run directories, folders that hold run directories, or folders that `d3gan compare` wrote."""
    out: str = ""
    """File to write. Default: report.html in the folder of `d3gan compare`, else in the current folder."""
    against: str = ""
    """Variant to compare the others with, such as dcgan. Default: the one with the fewest discriminators."""
    debug: Debug = False

    def __post_init__(self) -> None:
        """Checks the name of the page."""
        if self.out and Path(self.out).suffix.lower() not in (".html", ".htm"):
            raise ConfigError(f"--out {self.out}: the page's name must end in .html")
