"""What ``d3gan report`` is told. Imports neither torch nor matplotlib, so that its help answers at once."""

from dataclasses import dataclass
from pathlib import Path

from d3gan.config.shared_flags import Debug
from d3gan.errors import ConfigError


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page about some runs: figures, samples through training, tables, commands."""

    runs: tuple[str, ...]
    """Run directories, folders of run directories, or folders that `d3gan compare` wrote."""
    out: str = ""
    """File to write. Empty: report.html in the folder of `d3gan compare`, else in the current folder."""
    against: str = ""
    """Variant that the others are compared with, such as dcgan. Empty: the one with the fewest discriminators."""
    debug: Debug = False

    def __post_init__(self) -> None:
        """Checks the name of the page."""
        if self.out and Path(self.out).suffix.lower() not in (".html", ".htm"):
            raise ConfigError(f"--out {self.out}: the page's name must end in .html")
