"""The picture of a generator of points: where they lie among the modes, and what the discriminators make of that."""

import io

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image

from d3gan.image_files import open_image
from d3gan.plotting import BLACK, GREEN, GREY, ORANGE, PURPLE, SKY, STYLE

SIDE = 288
"""Pixels of the picture's side."""
POINTS = 1000
"""Points in a picture."""
GRID = 96
"""Points of the plane along each axis at which discriminators are asked."""
_ROOM = 1.35
_LINES = (ORANGE, PURPLE, GREEN, SKY)


def half_side(centers: npt.NDArray[np.float64]) -> float:
    """Half the picture's side in the plane's units: the modes (M, 2), with some room around them."""
    return _ROOM * float(np.abs(centers).max())


def plane(half: float) -> npt.NDArray[np.float32]:
    """The points of the plane at which a picture needs the discriminators' logits, (GRID * GRID, 2), row by row."""
    line = np.linspace(-half, half, GRID, dtype=np.float32)
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def point_picture(
    points: npt.NDArray[np.float32],
    half: float,
    centers: npt.NDArray[np.float64] | None = None,
    logits: npt.NDArray[np.float32] | None = None,
) -> Image.Image:
    """Draws points, the modes as circles around them, and the discriminators' level sets.

    Args:
        points: (N, 2), drawn as dots; those beyond the picture are left out.
        half: half the picture's side.
        centers: (M, 2) of the modes; None draws none.
        logits: (K, GRID * GRID) of every discriminator at ``plane(half)``. The mean of sigmoid(D_k) is the ground's
            colour, from red (fake) to blue (real), and each discriminator's boundary D_k = 0 is a line. None draws
            none.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(SIDE / 100, SIDE / 100), dpi=100)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(-half, half)
        axes.set_ylim(-half, half)
        if logits is not None and np.isfinite(logits).all():
            x, y = plane(half).T.reshape(2, GRID, GRID)
            fields = logits.astype(np.float64).reshape(-1, GRID, GRID)
            real = (1 / (1 + np.exp(-np.clip(fields, -30, 30)))).mean(axis=0)
            axes.contourf(x, y, real, levels=np.linspace(0, 1, 11), cmap="RdBu", alpha=0.35)
            for k, field in enumerate(fields):
                if field.min() < 0 < field.max():
                    axes.contour(x, y, field, levels=[0.0], colors=[_LINES[k % len(_LINES)]], linewidths=1.2)
        if centers is not None:
            axes.plot(*centers.T, "o", ms=9, mfc="none", mec=GREY, mew=1.2)
        inside = points[(np.abs(points) <= half).all(axis=1)]
        axes.plot(*inside.T, ".", ms=2.5, color=BLACK, alpha=0.5)
        file = io.BytesIO()
        figure.savefig(file, format="png", facecolor="white")
    # A palette: a run has many of these pictures, and a page shows those of many runs.
    with open_image(file.getvalue(), ("PNG",), "the picture of points") as image:
        return image.convert("RGB").quantize(64)
