"""Sample grids and animations as ``data:`` URIs."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from d3gan.errors import ExternalError
from d3gan.files import disk_errors, read_file
from d3gan.image_files import MAX_FILE_BYTES, open_image

QUALITY = 85
"""Of lossy WebP, 1 to 100: sample grids take a third to a fifth of their lossless size."""


@dataclass(frozen=True)
class EmbeddedImage:
    """An image in the page."""

    uri: str
    """``data:`` URI; images with equal pixels have equal ones."""
    width: int
    height: int


@dataclass(frozen=True)
class Animation:
    """A moving image, and the still one that is shown in its place."""

    name: str
    moving: str
    """``data:`` URI."""
    still: str
    """``data:`` URI of the last frame."""
    width: int
    height: int


def embedded(path: Path) -> EmbeddedImage:
    """An image file as lossy WebP, without metadata.

    Raises:
        ExternalError: the file cannot be read, or holds no PNG.
    """
    with open_image(path, ("PNG",)) as image:
        return EmbeddedImage(_webp_uri(image), image.width, image.height)


def read_animations(folders: Iterable[Path]) -> list[Animation]:
    """The animations in some folders, and in their subfolders named ``animations``, in order of the name."""
    paths = [
        path
        for folder in folders
        for subfolder in (folder, folder / "animations")
        for path in sorted(subfolder.glob("*"))
        if path.suffix.lower() in (".gif", ".webp") and path.is_file()
    ]
    return [animation for animation in map(_animation, paths) if animation is not None]


def _animation(path: Path) -> Animation | None:
    try:
        with disk_errors(path):
            content = read_file(path, MAX_FILE_BYTES)
        with open_image(content, ("GIF", "WEBP"), str(path)) as image:
            frames = getattr(image, "n_frames", 1)
            if frames < 2:
                return None
            image.seek(frames - 1)
            moving = data_uri(content, str(image.format).lower())
            return Animation(path.stem, moving, _webp_uri(image), image.width, image.height)
    except ExternalError:
        return None


def _webp_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    if "transparency" in image.info:  # a palette's, of which Pillow warns otherwise
        image = image.convert("RGBA")
    image.convert("RGB").save(file, "webp", quality=QUALITY)
    return data_uri(file.getvalue(), "webp")


def data_uri(content: bytes, kind: str) -> str:
    """The bytes of an image file of a kind, such as ``webp``, as a URI that holds them."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
