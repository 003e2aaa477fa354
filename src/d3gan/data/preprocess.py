"""Makes images square, resizes them and gives them 1 or 3 channels: one rule for every source, on several threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

PREPARATION = 1
"""Version of the rule below: raise it when prepared pixels change, so that older caches are not used."""

_LOOK_AHEAD = 4
"""Items in progress or waiting per worker; limits memory."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

ImageArray = npt.NDArray[np.uint8]
"""Images (N, C, H, W), or one of them (C, H, W), 0..255."""


def fit(image: Image.Image, size: int) -> Image.Image:
    """The largest square in the middle of ``image``, resized to ``size`` x ``size``.

    Bilinear, as the published programs resize; Pillow widens the filter when shrinking, which prevents aliasing.
    """
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if image.size != (side, side):
        image = image.crop((left, top, left + side, top + side))
    return image if side == size else image.resize((size, size), Image.Resampling.BILINEAR)


def to_array(image: Image.Image) -> ImageArray:
    """A grey (``L``) or ``RGB`` image as uint8 (C, H, W)."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def prepare_block(block: ImageArray, size: int, channels: int) -> ImageArray:
    """Resizes uint8 images (n, C, H, W) to (n, channels, size, size); three channels become ITU-R 601 luminance.

    Grey images stay grey: this never adds channels.
    """
    if block.shape[1:] == (channels, size, size):
        return block
    prepared = np.empty((len(block), channels, size, size), np.uint8)
    for i, pixels in enumerate(block):
        image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        prepared[i] = to_array(fit(image if len(pixels) == channels else image.convert("L"), size))
    return prepared


def ordered_map(function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int) -> Iterator[_Result]:
    """Applies ``function`` on ``workers`` threads and yields the results in the order of ``items``.

    Takes only a few items per worker ahead of those yielded, so that memory does not grow with their number.
    """
    if workers < 2:
        yield from map(function, items)
        return
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= _LOOK_AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
