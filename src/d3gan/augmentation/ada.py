"""ADA's operations and the control of their probability, from the equations of Karras et al., arXiv:2006.06676.

Each operation is done to an image with probability p. ``p`` rises while the discriminators are too sure of the real
images, and falls while they are not.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from d3gan.augmentation.base import Augmentation, normal, pixels, reflected, whole
from d3gan.augmentation.wavelets import DELAY, MARGIN, band_matrices, doubling, halving

EVERY = 4
"""Steps between two changes of p (arXiv:2006.06676, section 3.1)."""


class Operations(nn.Module):
    """A group of operations. Where one is not done, it changes nothing, up to rounding.

    Args:
        channels: of the images.
        size: of the images.
    """

    draws: int
    """Uniform numbers for each image."""

    def __init__(self, channels: int, size: int):  # noqa: ARG002
        super().__init__()

    def forward(self, images: Tensor, uniforms: Tensor, p: Tensor) -> Tensor:
        """Images of which some are changed.

        Args:
            images: (N, channels, size, size).
            uniforms: (N, draws) in [0, 1).
            p: () probability of each operation, in [0, 1].
        """
        raise NotImplementedError


class Blit(Operations):
    """Flips, quarter turns and shifts by whole pixels, with mirrored edges.

    Flip to the other side in half of the cases; 0, 1, 2 or 3 quarter turns; a shift of up to an eighth of the size
    each way. The pixels stay what they are. (The authors' program has one affine map for these and ``Geometry``,
    whose filters soften even a flip.)
    """

    draws = 7

    def forward(self, images: Tensor, uniforms: Tensor, p: Tensor) -> Tensor:
        """See ``Operations``."""
        size = images.shape[-1]
        u = uniforms[:, :, None, None].unbind(1)
        flips = (whole(u[1], 2) == 1) & (u[0] < p)
        turns = whole(u[3], 4) * (u[2] < p)
        down, right = (((2 * each - 1) * 0.125 * size).round().long() * (u[4] < p) for each in u[5:])
        # From the pixel that is wanted back to where it was, so the last operation first.
        places = torch.arange(size, device=images.device)
        rows, columns = torch.broadcast_tensors(
            reflected(places[:, None] - down, size), reflected(places - right, size)
        )
        other_rows, other_columns = size - 1 - rows, size - 1 - columns
        rows, columns = (
            torch.where(turns == 0, a, torch.where(turns == 1, b, torch.where(turns == 2, c, d)))
            for a, b, c, d in ((rows, columns, other_rows, other_columns), (columns, other_rows, other_columns, rows))
        )
        columns = torch.where(flips, size - 1 - columns, columns)
        return pixels(images, rows, columns).permute(0, 3, 1, 2)


class Geometry(Operations):
    """Scaling, rotation, stretching and shifts, as one affine map of an image with mirrored edges.

    In this order: a scale 2^N(0, 0.2²); a rotation; another scale 2^N(0, 0.2²) of the width, and its inverse of the
    height; a rotation; a shift N(0, 0.125²) of the size each way. The rotations are by any angle, and each is done
    with probability 1 - √(1 - p), so that p is the probability of any. The image is read at twice its resolution,
    against aliasing.
    """

    draws = 11
    up: Tensor
    down: Tensor

    def __init__(self, channels: int, size: int):
        super().__init__(channels, size)
        self.register_buffer("up", doubling(size), persistent=False)
        self.register_buffer("down", halving(size), persistent=False)

    def forward(self, images: Tensor, uniforms: Tensor, p: Tensor) -> Tensor:
        """See ``Operations``."""
        size = images.shape[-1]
        fine = self.up @ images @ self.up.T  # the samples -MARGIN … 2 size + MARGIN - 1 each way
        # Where each sample that halving asks for comes from, in pixels from the image's centre.
        center = (size - 1) / 2
        places = (torch.arange(-5, 2 * size + 5, device=images.device, dtype=images.dtype) - DELAY) / 2 - center
        matrix, shift = affine(uniforms, p, size)
        rows, columns = places[:, None], places[None, :]
        x, y = (matrix[:, i, 0] * columns + matrix[:, i, 1] * rows + shift[:, i] + center for i in range(2))
        # Mirrored beyond the edge; doubling has computed the next pixels.
        x, y = (
            torch.where((each >= -3) & (each <= size + 2), each, reflected(each, size)) * 2 + (DELAY + MARGIN)
            for each in (x, y)
        )
        left, top = x.floor(), y.floor()
        to_right, to_bottom = (x - left)[..., None], (y - top)[..., None]
        left, top = left.long(), top.long()
        above = torch.lerp(pixels(fine, top, left), pixels(fine, top, left + 1), to_right)
        below = torch.lerp(pixels(fine, top + 1, left), pixels(fine, top + 1, left + 1), to_right)
        moved = torch.lerp(above, below, to_bottom).permute(0, 3, 1, 2)
        return self.down @ moved @ self.down.T


def affine(uniforms: Tensor, p: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """From a place in the image of ``Geometry`` back to where it was in the one before, both from the centre.

    Args:
        uniforms: (N, 11).
        p: () in [0, 1].
        size: of the images.

    Returns:
        Matrix (N, 2, 2, 1, 1) and shift (N, 2, 1, 1) in pixels, for columns (x) and rows (y).
    """
    u = uniforms.unbind(1)
    rotating = 1 - (1 - p).sqrt()
    scale = torch.exp2(0.2 * normal(u[1]) * (u[0] < p))
    stretch = torch.exp2(0.2 * normal(u[5]) * (u[4] < p))
    first, second = ((2 * u[i + 1] - 1) * math.pi * (u[i] < rotating) for i in (2, 6))
    shift = 0.125 * size * normal(uniforms[:, 9:11]) * (u[8] < p)[:, None]
    width = torch.stack([1 / stretch, stretch], dim=1)[:, :, None]  # back, so inverse
    matrix = rotation(-first) @ (width * rotation(-second)) / scale[:, None, None]
    return matrix[..., None, None], -(matrix @ shift[:, :, None])[..., None]


def rotation(angles: Tensor) -> Tensor:
    """Matrices (N, 2, 2) that rotate by angles (N)."""
    cosines, sines = angles.cos(), angles.sin()
    return torch.stack([cosines, -sines, sines, cosines], dim=1).view(-1, 2, 2)


class Color(Operations):
    """Brightness, contrast, luma flip, hue and saturation, as one affine map of the colours.

    In this order: plus N(0, 0.2²); times 2^N(0, 0.5²); the luma (the component along (1, 1, 1)) negated in half of
    the cases; a rotation about (1, 1, 1) by any angle; the rest of the colour times 2^N(0, 1). Grey images have no
    colour beside their luma, so of them the last two change nothing.
    """

    draws = 10
    luma: Tensor
    turned: Tensor

    def __init__(self, channels: int, size: int):
        super().__init__(channels, size)
        # The projection on the luma's axis.
        self.register_buffer("luma", torch.full((3, 3), 1 / 3, dtype=torch.float64), persistent=False)
        # The plane across it turned by 90 degrees: the cross product with (1, 1, 1) / √3.
        cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / math.sqrt(3)
        self.register_buffer("turned", cross, persistent=False)

    def forward(self, images: Tensor, uniforms: Tensor, p: Tensor) -> Tensor:
        """See ``Operations``."""
        u = uniforms[:, :, None, None].unbind(1)
        brightness = 0.2 * normal(u[1]) * (u[0] < p)
        contrast = torch.exp2(0.5 * normal(u[3]) * (u[2] < p))
        luma = torch.where((whole(u[5], 2) == 1) & (u[4] < p), -contrast, contrast)
        if images.shape[1] == 1:
            return (images + brightness[..., None]) * luma[..., None]
        hue = (2 * u[7] - 1) * math.pi * (u[6] < p)
        saturation = contrast * torch.exp2(normal(u[9]) * (u[8] < p))
        # All five leave the luma's axis where it is: they act on the luma, and on the plane across it.
        across = torch.eye(3, dtype=images.dtype, device=images.device) - self.luma
        matrix = luma * self.luma + saturation * (hue.cos() * across + hue.sin() * self.turned)
        mapped = matrix @ images.flatten(2) + luma * brightness
        return mapped.view_as(images)


class BandFilter(Operations):
    """Four bands of frequency, each strengthened or weakened by 2^N(0, 1), with mirrored edges.

    For each band the gains of all four are then divided by the root of their mean square, weighted 10 : 1 : 1 : 1
    from low to high as natural images are, so that an image's power stays on average.
    """

    draws = 8
    bands: Tensor
    power: Tensor

    def __init__(self, channels: int, size: int):
        super().__init__(channels, size)
        self.register_buffer("bands", band_matrices(size), persistent=False)
        self.register_buffer("power", torch.tensor([10, 1, 1, 1], dtype=torch.float64) / 13, persistent=False)

    def forward(self, images: Tensor, uniforms: Tensor, p: Tensor) -> Tensor:
        """See ``Operations``."""
        u = uniforms.unbind(1)
        gains = torch.ones_like(uniforms[:, :4])
        for band, ones in enumerate(torch.eye(4, dtype=images.dtype, device=images.device)):
            factor = torch.exp2(normal(u[2 * band + 1]) * (u[2 * band] < p))[:, None]
            of_band = 1 + (factor - 1) * ones
            gains = gains * of_band / (self.power * of_band.square()).sum(dim=1, keepdim=True).sqrt()
        matrices = torch.einsum("nb,bij->nij", gains, self.bands)[:, None]
        return matrices @ images @ matrices.mT


class Noise(Operations):
    """Noise N(0, σ²) on every number of an image, σ = |N(0, 0.1²)|."""

    def __init__(self, channels: int, size: int):
        super().__init__(channels, size)
        self.draws = 2 + channels * size**2

    def forward(self, images: Tensor, uniforms: Tensor, p: Tensor) -> Tensor:
        """See ``Operations``."""
        deviation = 0.1 * normal(uniforms[:, 1]).abs() * (uniforms[:, 0] < p)
        return images + deviation[:, None, None, None] * normal(uniforms[:, 2:]).view_as(images)


class Cutout(Operations):
    """A square of half the size set to 0, its centre anywhere in the image."""

    draws = 3

    def forward(self, images: Tensor, uniforms: Tensor, p: Tensor) -> Tensor:
        """See ``Operations``."""
        size = images.shape[-1]
        places = (torch.arange(size, device=images.device, dtype=images.dtype) + 0.5) / size
        rows, columns = ((places - uniforms[:, 1:, None]).abs() < 0.25).unbind(1)
        cut = rows[:, None, :, None] & columns[:, None, None, :] & (uniforms[:, 0] < p)[:, None, None, None]
        return images * ~cut


GROUPS: dict[str, type[Operations]] = {
    "blit": Blit,
    "geom": Geometry,
    "color": Color,
    "filter": BandFilter,
    "noise": Noise,
    "cutout": Cutout,
}
"""In the order in which they are done."""


class AdaptiveAugmentation(Augmentation):
    """Some groups of ADA's operations, each operation done with probability p, which follows the discriminators.

    With r the mean sign of D(x) over the real images of four steps, all discriminators and all processes, p moves by
    4 B / length towards more augmentation if r > target and towards less if r < target, and stays within 0 and 1 (the
    authors' program has no upper end, beyond which nothing changes but the time it takes to come back).

    Args:
        groups: some of ``GROUPS``.
        channels: of the images.
        size: of the images.
        images_per_step: B, real images of a step, of all processes.
        target: of r.
        length: real images in which p goes from 0 to 1 if r stays on one side.
        fixed: p does not follow r: this is its value.
        ramp_up: real images in which p goes from 0 to ``fixed``, along half a wave of the cosine, as in R3GAN
            (arXiv:2501.05441); 0: it is ``fixed`` from the start.
    """

    p: Tensor
    sum_of_signs: Tensor
    steps: Tensor

    def __init__(
        self,
        groups: Sequence[str],
        channels: int,
        size: int,
        images_per_step: int,
        target: float = 0.6,
        length: int = 500_000,
        fixed: float | None = None,
        ramp_up: int = 0,
    ):
        super().__init__()
        self._groups = [group(channels, size) for name, group in GROUPS.items() if name in groups]
        self.groups = nn.ModuleList(self._groups)  # for their buffers
        self._draws = [group.draws for group in self._groups]
        self.draws = sum(self._draws)
        self._images_per_step, self._target, self._length = images_per_step, target, length
        self._fixed, self._ramp_up = fixed, ramp_up
        self.register_buffer("p", torch.tensor(0.0 if fixed is None or ramp_up else fixed))
        self.register_buffer("sum_of_signs", torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def change(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """As ``forward``."""
        for group, own in zip(self._groups, uniforms.split(self._draws, dim=1), strict=True):
            images = group(images, own, self.p)
        return images

    def observe(self, real_signs: Tensor) -> Tensor:
        """Moves p after a step's discriminators' update, on the device.

        Args:
            real_signs: (K,) mean sign of each discriminator's logits of this step's augmented real images, over all
                processes.

        Returns:
            (2,): the p of that update, and r of this step.
        """
        measured = torch.stack([self.p, real_signs.to(self.p.dtype).mean()])
        self.steps += 1
        if self._fixed is None:
            self.sum_of_signs += measured[1]
            due = self.steps % EVERY == 0
            most = EVERY * self._images_per_step / self._length
            change = most * (self.sum_of_signs / EVERY - self._target).sign()
            self.p.copy_((self.p + due * change).clamp(0, 1))
            self.sum_of_signs.mul_(~due)
        elif self._ramp_up:
            done = (self.steps.to(self.p.dtype) * (self._images_per_step / self._ramp_up)).clamp(max=1)
            self.p.copy_(self._fixed * (1 - torch.cos(math.pi * done)) / 2)
        return measured
