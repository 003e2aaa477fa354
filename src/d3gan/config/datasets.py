"""The names of the known data sets, what the computed ones are made of, and which metrics apply. Imports no torch."""

from typing import NamedTuple


class PointSet(NamedTuple):
    """A mixture of Gaussians in the plane, with its usual radius and deviation."""

    radius: float
    deviation: float


# PacGAN's and VEEGAN's numbers; D2GAN's ring has radius 2 and deviation 0.14, the grid's centres are 2 apart.
POINT_SETS = {"ring8": PointSet(1.0, 0.01), "grid25": PointSet(4.0, 0.05)}
STACKED = "stacked-mnist"
"""Three random digits as red, green and blue: 1,000 modes."""
SET_NAMES = ("mnist", "fashion-mnist", "cifar10", "cifar100", "svhn", "stl10", "stl", STACKED, *POINT_SETS)
"""Every name of a data set that is no path; ``d3gan.data.published.catalog`` describes the published ones."""
POINTS = {"train": 100_000, "test": 20_000}
"""Points of each split of a point set; PacGAN's program trains on 100,000."""

FEATURE_METRICS = ("fid", "is", "kid", "prdc")
"""Metrics of images, by the features of a network."""
METRICS = (*FEATURE_METRICS, "modes")
"""All metrics that an evaluation can compute; ``modes`` where the data's modes are known."""


def metrics_that_apply(dataset: str) -> tuple[str, ...]:
    """The metrics that a data set's samples have, those that an evaluation computes by default first."""
    if dataset in POINT_SETS:
        return ("modes",)
    return ("modes", *FEATURE_METRICS) if dataset == STACKED else FEATURE_METRICS
