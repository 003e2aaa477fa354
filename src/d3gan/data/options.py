"""What ``d3gan data list``, ``fetch`` and ``verify`` are told."""

from dataclasses import dataclass

from d3gan.config.shared_flags import DataDir, Debug


@dataclass(frozen=True)
class DataList:
    """List the known data sets, and whether their files are at hand."""

    data_dir: DataDir = ""
    debug: Debug = False


@dataclass(frozen=True)
class DataFetch:
    """Fetch a data set's official files and check them."""

    name: str
    """A name that `d3gan data list` shows."""
    data_dir: DataDir = ""
    debug: Debug = False


@dataclass(frozen=True)
class DataVerify:
    """Check every file of a data set, or every image of a folder or .zip."""

    name: str
    """A name that `d3gan data list` shows, or the path of a folder or .zip of images."""
    data_dir: DataDir = ""
    debug: Debug = False
