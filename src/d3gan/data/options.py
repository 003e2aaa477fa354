"""Flags of ``d3gan data list``, ``fetch`` and ``verify``."""

from dataclasses import dataclass

from d3gan.config.shared_flags import DataDir, Debug


@dataclass(frozen=True)
class DataList:
    """List the known data sets, and which of their files are on this machine."""

    data_dir: DataDir = ""
    debug: Debug = False


@dataclass(frozen=True)
class DataFetch:
    """Download a data set's official files and verify them."""

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
