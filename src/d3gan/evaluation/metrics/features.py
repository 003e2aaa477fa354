"""Checks and precision of features, for all metrics."""

import torch
from torch import Tensor

from d3gan.errors import ExternalError


class UnusableFeaturesError(ExternalError):
    """These features have no statistics; the message says why."""


def to_float64(tensor: Tensor) -> Tensor:
    """The tensor in float64, on the CPU where its device has no float64 (MPS)."""
    return tensor.to("cpu" if tensor.device.type == "mps" else tensor.device, torch.float64)


def require_finite(features: Tensor, what: str = "features") -> None:
    """Checks that every number is finite.

    Raises:
        UnusableFeaturesError: one is not; counts them.
    """
    bad = int((~features.isfinite()).sum())
    if bad:
        raise UnusableFeaturesError(f"{bad:,} of {features.numel():,} numbers of the {what} are NaN or infinite")
