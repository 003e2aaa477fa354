"""What ``d3gan data list``, ``fetch`` and ``verify`` are told."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataList:
    """List the known data sets, and whether their files are at hand."""

    data_dir: str = ""
    """Folder of the data files. Empty: $D3GAN_DATA, else the user's cache folder."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class DataFetch:
    """Fetch a data set's official files and check them."""

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
