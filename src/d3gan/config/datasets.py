"""The data sets that are computed, not fetched; what their samples are, and which metrics apply. Imports no torch."""

from typing import NamedTuple


class PointSet(NamedTuple):
    """A mixture of Gaussians in the plane, with its usual radius and deviation."""

    radius: float
    deviation: float


# PacGAN's and VEEGAN's numbers; D2GAN's ring has radius 2 and deviation 0.14, the grid's centres are 2 apart.
POINT_SETS = {"ring8": PointSet(1.0, 0.01), "grid25": PointSet(4.0, 0.05)}
STACKED = "stacked-mnist"
"""Three random digits as red, green and blue: 1,000 modes."""
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
