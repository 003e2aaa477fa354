"""Sample grids and animations as ``data:`` URIs, within a number of bytes."""

import base64
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from PIL import Image

from d3gan.comparison.runs import Run


class Plan(NamedTuple):
    """How much of the sample grids a page holds."""

    frames: int
    """Most grids of a run; the first and the last are always among them."""
    quality: int
    """0: pixel by pixel; else that of lossy WebP, 1 to 100."""
    scale: float
    """Share of the width and of the height, (0, 1]."""


# Fewer moments cost a reader least, then what the eye hardly sees, then size.
PLANS = (
    *(Plan(frames, 0, 1.0) for frames in (96, 48, 24)),
    *(Plan(frames, 85, 1.0) for frames in (24, 12)),
    *(Plan(12, 85, scale) for scale in (0.7, 0.5)),
    *(Plan(frames, 75, 0.5) for frames in (6, 3, 1)),
)
COARSE = 3
"""So many of the last plans leave too little for a slider: animations go first."""


# What Pillow raises where a file is torn, foreign or absurdly large.
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


@dataclass
class Picture:
    """An image file, encoded when it is wanted; its pixels are not kept, hundreds of them would fill the memory."""

    path: Path
    _encoded: dict[tuple[int, float], bytes] = field(default_factory=dict)

    def webp(self, quality: int, scale: float) -> bytes:
        """The image as WebP; without metadata, and where nothing is given up smaller than the PNG.

        Args:
            quality: 0: pixel by pixel; else 1 to 100.
            scale: share of the width and of the height, (0, 1].

        Raises:
            OSError: the file cannot be read, or holds no image.
        """
        if (quality, scale) not in self._encoded:
            with Image.open(self.path) as image:
                size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
                pixels = image.convert("RGB")
            if scale < 1:
                pixels = pixels.resize(size, Image.Resampling.LANCZOS)
            # Pixel by pixel, the fastest settings lose 2 % of the best ones' gain.
            settings: dict[str, Any] = (
                {"quality": quality} if quality else {"lossless": True, "method": 1, "quality": 20}
            )
            file = io.BytesIO()
            pixels.save(file, "webp", **settings)
            self._encoded[quality, scale] = file.getvalue()
        return self._encoded[quality, scale]


@dataclass(frozen=True)
class Grids:
    """A run's sample grids."""

    run: Run
    frames: Sequence[tuple[int, Picture]]
    """Step and image, in order of the step; at least one."""

    def kept(self, plan: Plan) -> list[tuple[int, Picture]]:
        """The grids that a plan leaves."""
        return _spread(self.frames, plan.frames)


_Frame = TypeVar("_Frame")


def _spread(frames: Sequence[_Frame], most: int) -> list[_Frame]:
    """Some of the frames, evenly spread; first and last among them, where one is to stay the last."""
    count, last = min(most, len(frames)), len(frames) - 1
    return [frames[round(i * last / (count - 1))] for i in range(count)] if count > 1 else list(frames[-1:])


@dataclass(frozen=True)
class Animation:
    """A moving image, and the still one that stands for it."""

    name: str
    moving: str
    """``data:`` URI."""
    still: str
    """``data:`` URI of the last frame."""
    width: int
    height: int

    @property
    def size(self) -> int:
        """Characters that it takes in a page."""
        return len(self.moving) + len(self.still)


def read_grids(runs: Iterable[Run]) -> tuple[list[Grids], list[str]]:
    """The runs' sample grids, and a remark for each run of which some cannot be read."""
    found, remarks = [], []
    for run in runs:
        frames, torn = [], []
        for step, path in _spread(run.sample_grids, PLANS[0].frames):
            picture = Picture(path)
            try:
                picture.webp(0, 1.0)
            except _UNREADABLE:
                torn.append(path.name)
            else:
                frames.append((step, picture))
        if torn:
            remarks.append(f"{run.name}: sample grids that cannot be read are left out: {', '.join(torn)}.")
        if frames:
            found.append(Grids(run, frames))
    return found, remarks


def read_animations(folders: Iterable[Path]) -> list[Animation]:
    """The animations in some folders, and in folders there that are called ``animations``, in order of the name."""
    paths = [
        path
        for folder in folders
        for place in (folder, folder / "animations")
        for path in sorted(place.glob("*"))
        if path.suffix.lower() in (".gif", ".webp") and path.is_file()
    ]
    return [animation for animation in map(_animation, paths) if animation is not None]


def _animation(path: Path) -> Animation | None:
    try:
        with Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            if image.format not in ("GIF", "WEBP") or frames < 2:
                return None
            image.seek(frames - 1)
            file = io.BytesIO()
            image.convert("RGB").save(file, "webp", quality=85)
            moving = data_uri(path.read_bytes(), image.format.lower())
            return Animation(path.stem, moving, data_uri(file.getvalue()), image.width, image.height)
    except _UNREADABLE:
        return None


def data_uri(content: bytes, kind: str = "webp") -> str:
    """An image's bytes as the address of itself."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def checksum(content: bytes) -> str:
    """By what equal images are told."""
    return hashlib.sha256(content).hexdigest()


def size_of(grids: Iterable[Grids], plan: Plan) -> int:
    """Characters that the grids take in a page, equal ones counted once."""
    contents = (picture.webp(plan.quality, plan.scale) for grid in grids for _, picture in grid.kept(plan))
    return sum(4 * -(-size // 3) + 60 for size in {checksum(content): len(content) for content in contents}.values())
