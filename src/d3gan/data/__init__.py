"""Data sets: what each one is, where it comes from, how its files are read, and batches of it.

Importing this package imports neither torch nor NumPy: ``d3gan data list`` and ``--help`` are immediate.
"""

from d3gan.data.load import ImageSet, data_folder, load_images
from d3gan.data.published.catalog import dataset_names
from d3gan.data.published.commands import catalog_lines, fetch
from d3gan.data.published.verify import verify

__all__ = ["ImageSet", "catalog_lines", "data_folder", "dataset_names", "fetch", "load_images", "verify"]
