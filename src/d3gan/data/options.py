"""Flags of ``d3gan data list``, ``fetch`` and ``verify``."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataList:
    """List the known data sets, and which of their files are on this machine."""

    data_dir: str = ""
    """Folder of the data files. Empty: $D3GAN_DATA, else the user's cache folder."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class DataFetch:
    """Download a data set's official files and verify them."""

    name: str
    """A name that `d3gan data list` shows."""
    data_dir: str = ""
    """Folder of the data files. Empty: $D3GAN_DATA, else the user's cache folder."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class DataVerify:
    """Check every file of a data set, or every image of a folder or .zip."""

    name: str
    """A name that `d3gan data list` shows, or the path of a folder or .zip of images."""
    data_dir: str = ""
    """Folder of the data files. Empty: $D3GAN_DATA, else the user's cache folder."""
    debug: bool = False
    """Show the traceback of an error."""
