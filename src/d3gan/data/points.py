"""Points in the plane: mixtures of Gaussians whose modes are known, so that lost ones can be counted.

The usual ones of the literature: eight modes on a ring and 25 on a grid, as in PacGAN's program (Lin, Khetan, Fanti,
Oh, arXiv:1712.04086), which follows VEEGAN (arXiv:1705.07761).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from d3gan.config.datasets import POINT_SETS, POINTS
from d3gan.randomness import stream


@dataclass(frozen=True)
class Mixture:
    """Gaussians with equal shares and equal deviations."""

    name: str
    """``ring8`` or ``grid25``."""
    radius: float
    """Of the ring's circle, or half the grid's side."""
    deviation: float
    """Standard deviation of each coordinate within a mode."""

    @property
    def centers(self) -> npt.NDArray[np.float64]:
        """The modes' centres, (8, 2) or (25, 2)."""
        if self.name == "ring8":
            angles = 2 * np.pi * np.arange(8) / 8
            return self.radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        line = self.radius * np.linspace(-1, 1, 5)
        return np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)

    @property
    def identity(self) -> str:
        """All that decides the distribution: ``ring8``, and its numbers if they are not the usual ones."""
        if self == mixture_of(self.name):
            return self.name
        return f"{self.name}-radius-{self.radius:g}-deviation-{self.deviation:g}"

    def draw(self, split: str) -> npt.NDArray[np.float32]:
        """The points of ``train`` or ``test``, (N, 2) float32: the same ones each time."""
        count, rng = POINTS[split], stream(0, f"points {split}")
        modes = torch.randint(len(self.centers), (count,), generator=rng)
        noise = torch.randn(count, 2, generator=rng, dtype=torch.float64)
        points = torch.from_numpy(self.centers)[modes] + self.deviation * noise
        return points.float().numpy()

    def checksum(self, split: str) -> str:
        """SHA-256 hex of all that decides the points of a split."""
        parts = [1, self.name, self.radius, self.deviation, split, POINTS[split]]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def mixture_of(name: str, radius: float | str = "", deviation: float | str = "") -> Mixture | None:
    """The mixture that a data set's name means, with its usual numbers where they are empty; None: it is none."""
    if name not in POINT_SETS:
        return None
    usual = POINT_SETS[name]
    return Mixture(name, float(radius or usual.radius), float(deviation or usual.deviation))


def mixture_in(facts: Mapping[str, Any]) -> Mixture | None:
    """The mixture that the facts of a generator's file name; None: they name none."""
    return mixture_of(str(facts.get("dataset")), facts.get("radius", ""), facts.get("deviation", ""))
