"""What the published programs logged on several GPUs, so that plots can show their curves with ours."""

from dataclasses import dataclass

GPU = "V100"
PUBLISHED_NOTE = "Published: CIFAR-10, batch size 128 per GPU, V100; logged by Shukla and Pitty, read in 2023."


@dataclass(frozen=True)
class PublishedRun:
    """One run of 30 epochs on CIFAR-10, batch size 128 per GPU."""

    gpus: int
    seconds_per_epoch: float
    images_per_second: float
    """Including the loading of data."""
    utilization: float
    """Of the GPUs, 0 to 1, mean over GPUs and time."""


# The published programs' logs, CIFAR-10, batch size 128 per GPU, V100; read in 2023 (2 loader workers on one GPU).
# The logs of one GPU hold no rate that includes loading; its rate is 50,000 images over the seconds per epoch.
PUBLISHED = {
    "d3gan": (
        PublishedRun(1, 11.985, 4172.0, 0.911),
        PublishedRun(2, 12.282, 4071.2, 0.445),
        PublishedRun(3, 8.173, 6117.7, 0.463),
        PublishedRun(4, 6.390, 7824.4, 0.440),
    ),
    "dcgan": (
        PublishedRun(1, 10.809, 4625.8, 0.685),
        PublishedRun(2, 10.731, 4659.6, 0.363),
        PublishedRun(3, 7.188, 6956.2, 0.360),
        PublishedRun(4, 5.969, 8376.6, 0.356),
    ),
}
