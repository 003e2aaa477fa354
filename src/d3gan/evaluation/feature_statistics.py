"""From images to their features' statistics, by one process or many, in memory that does not grow with their number.

However many processes share the work, rank 0 takes in the same features of the same chunks in the same order, so that
every figure is the same to the last bit, and exactly the images asked for are counted. (Adding up each process's own
sums instead would change their last bits, and the square root of a covariance without full rank turns 1e-16 into
1e-8, once for each of some thousand features.)
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from d3gan.distributed.group import Group
from d3gan.errors import ExternalError, first_line
from d3gan.evaluation.extractors.base import Extractor
from d3gan.evaluation.metrics.features import UnusableFeaturesError
from d3gan.evaluation.metrics.fid import Moments
from d3gan.evaluation.metrics.inception_score import InceptionScore
from d3gan.randomness import stream

# Images whose features are computed at once.
CHUNK = 250
# KID and precision/recall/density/coverage need the features themselves. They take at most this many images of a set,
# chosen at random: as many as those metrics' papers use, and 80 MB.
KEPT = 10_000
SPLITS = 10

Source = Callable[[int, int], Tensor]
"""Images ``start`` to ``stop`` of a set, uint8 (stop - start, 3, H, W); the same ones whenever it is called."""


@dataclass(frozen=True)
class Collected:
    """What is known of a set of images once its features have passed by."""

    moments: Moments
    """Count, mean and covariance of all features."""
    kept: Tensor
    """(M, D) float32, M <= KEPT: features of images chosen at random."""
    score: tuple[float, float] | None
    """Inception Score and its deviation over the splits; None where it was not asked for."""
    features: Tensor | None
    """(N, D) float32 of all images, where intervals were asked for."""
    logits: Tensor | None
    """(N, C) float32 in the order of ``order``, where intervals were asked for."""


def order_of(count: int) -> Tensor:
    """(count,) int64: the fixed random order in which images are dealt to splits and chosen to be kept.

    A folder is often sorted by class: ten splits of ten classes would have an Inception Score of 1, and the first
    10,000 images of 50,000 would be two classes.
    """
    return torch.randperm(count, generator=stream(0, "evaluation order", count))


def grey_to_colour(images: Tensor) -> Tensor:
    """(N, 1 or 3, H, W) -> (N, 3, H, W): grey becomes three equal channels."""
    return images.expand(-1, 3, -1, -1)


def collect(
    source: Source,
    count: int,
    extractor: Extractor,
    group: Group,
    *,
    score: bool,
    everything: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> Collected | None:
    """Features of images 0 to ``count`` - 1, on all processes of the group; all of them must call it.

    Args:
        source: where the images come from.
        count: how many.
        extractor: what makes features of them.
        group: the processes.
        score: compute the Inception Score too.
        everything: keep the features and logits of all images, 4 (D + C) bytes each.
        advance: called with the number of images done since the last call, in all processes after the same ones.

    Returns:
        The statistics on rank 0, None elsewhere.

    Raises:
        ExternalError: in all processes, where the images or features of any of them cannot be used.
    """
    with group.raise_on_all_ranks():
        taken = _Taken(count, extractor, score, everything) if group.is_main else None
    chunks = [(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    for first in range(0, len(chunks), group.world_size):
        own = first + group.rank
        with group.raise_on_all_ranks():
            mine = _features(source, chunks[own], extractor, score) if own < len(chunks) else None
        together = group.gather(_padded(mine, extractor, score))
        with group.raise_on_all_ranks():
            if taken is not None:
                for (start, stop), rows in zip(chunks[first:], together, strict=False):
                    taken.take(rows[: stop - start], start)
        advance(sum(stop - start for start, stop in chunks[first : first + group.world_size]))
        group.heartbeat(f"image {chunks[first][0]:,} of an evaluation")
    return taken.result() if taken is not None else None


def _features(source: Source, chunk: tuple[int, int], extractor: Extractor, score: bool) -> Tensor:
    """(n, D) features of a chunk, or (n, D + C) with the logits beside them, float32."""
    try:
        features, logits = extractor(source(*chunk))
    except ExternalError:
        raise
    except RuntimeError as error:  # memory has run out, or a network of the user's own fails on these images
        reason = f"images {chunk[0]:,} to {chunk[1]:,}: {first_line(error)}"
        raise UnusableFeaturesError(f"{extractor.name} cannot compute features ({reason})") from error
    return torch.cat([features, logits], dim=1) if score and logits is not None else features


def _padded(rows: Tensor | None, extractor: Extractor, score: bool) -> Tensor:
    """The rows filled up to CHUNK, as a gather wants equal shapes; who takes them in counts only the real ones."""
    if rows is not None and len(rows) == CHUNK:
        return rows
    width = extractor.feature_size + (extractor.classes if score else 0)
    full = torch.zeros(CHUNK, width, device=extractor.device)
    if rows is not None:
        full[: len(rows)] = rows
    return full


class _Taken:
    """What rank 0 makes of the features as they come in."""

    def __init__(self, count: int, extractor: Extractor, score: bool, everything: bool):
        self._size, self._order = extractor.feature_size, order_of(count)
        self._moments = Moments(self._size)
        self._chosen = self._order[:KEPT].sort().values
        self._kept = torch.empty(len(self._chosen), self._size)
        self._score = InceptionScore(count, SPLITS, self._order) if score else None
        self._everything = everything
        self._rows: list[Tensor] = []

    def take(self, rows: Tensor, start: int) -> None:
        """Rows (n, D) or (n, D + C) of images ``start`` to ``start`` + n - 1."""
        features, logits = rows[:, : self._size], rows[:, self._size :]
        self._moments.update(features)
        first, last = torch.searchsorted(self._chosen, torch.tensor([start, start + len(rows)])).tolist()
        self._kept[first:last] = features[(self._chosen[first:last] - start).to(rows.device)].cpu()
        if self._score is not None:
            self._score.update(logits, start)
        if self._everything:
            self._rows.append(rows.cpu())

    def result(self) -> Collected:
        """The statistics of all that was taken in."""
        rows = torch.cat(self._rows) if self._everything else None
        return Collected(
            self._moments,
            self._kept,
            self._score.result() if self._score is not None else None,
            rows[:, : self._size] if rows is not None else None,
            rows[:, self._size :] if rows is not None and self._score is not None else None,
        )
