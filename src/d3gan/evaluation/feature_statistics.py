"""From images to their features' statistics, by one process or many, in memory that does not grow with their number.

However many processes share the work, rank 0 takes in the same features of the same chunks in the same order, so that
every metric is the same to the last bit, and exactly the images asked for are counted. (Adding up each process's own
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
# KID and precision/recall/density/coverage need the features themselves. They use those of at most this many images
# of a set, chosen at random: as many as those metrics' papers use, and 80 MB.
MAX_SAMPLED_FEATURES = 10_000
SPLITS = 10

Source = Callable[[int, int], Tensor]
"""Images ``start`` to ``stop`` of a set, uint8 (stop - start, 3, H, W); the same ones whenever it is called."""


@dataclass(frozen=True)
class FeatureStatistics:
    """What the metrics use of a set of images."""

    moments: Moments
    """Count, mean and covariance of all features."""
    sampled_features: Tensor
    """(M, D) float32, M <= MAX_SAMPLED_FEATURES: features of images chosen at random."""
    score: tuple[float, float] | None
    """Inception Score and its deviation over the splits; None where it was not asked for."""
    features: Tensor | None
    """(N, D) float32 of all images, where intervals were asked for."""
    logits: Tensor | None
    """(N, C) float32 of all images, where intervals and the Inception Score were asked for."""


def evaluation_order(count: int) -> Tensor:
    """(count,) int64: the fixed random order in which images are dealt to splits and sampled.

    A folder is often sorted by class: ten splits of ten classes would have an Inception Score of 1, and the first
    10,000 images of 50,000 would be two classes.
    """
    return torch.randperm(count, generator=stream(0, "evaluation order", count))


def gray_to_color(images: Tensor) -> Tensor:
    """(N, 1 or 3, H, W) -> (N, 3, H, W): grey becomes three equal channels."""
    return images.expand(-1, 3, -1, -1)


def collect_statistics(
    source: Source,
    count: int,
    extractor: Extractor,
    group: Group,
    *,
    score: bool,
    all_features: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> FeatureStatistics | None:
    """Computes statistics of the features of images 0 to ``count`` - 1; all processes of the group must call it.

    Args:
        source: gives the images.
        count: number of images.
        extractor: computes their features.
        group: the processes that share the work.
        score: compute the Inception Score too.
        all_features: keep the features and logits of all images, 4 (D + C) bytes per image.
        advance: called with the number of images done since the last call, in all processes after the same ones.

    Returns:
        The statistics on rank 0, None elsewhere.

    Raises:
        ExternalError: in all processes, if the images or features of any of them cannot be used.
    """
    with group.raise_on_all_ranks():
        accumulator = _Accumulator(count, extractor, score, all_features) if group.is_main else None
    chunks = [(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    for first in range(0, len(chunks), group.world_size):
        index = first + group.rank
        with group.raise_on_all_ranks():
            rows = _features(source, chunks[index], extractor, score) if index < len(chunks) else None
        rows_by_rank = group.gather(_padded(rows, extractor, score))
        with group.raise_on_all_ranks():
            if accumulator is not None:
                for (start, stop), gathered_rows in zip(chunks[first:], rows_by_rank, strict=False):
                    accumulator.update(gathered_rows[: stop - start], start)
        advance(sum(stop - start for start, stop in chunks[first : first + group.world_size]))
        group.heartbeat(f"image {chunks[first][0]:,} of an evaluation")
    return accumulator.result() if accumulator is not None else None


def _features(source: Source, chunk: tuple[int, int], extractor: Extractor, score: bool) -> Tensor:
    """(n, D) features of a chunk, or (n, D + C) features and logits, float32."""
    try:
        features, logits = extractor(source(*chunk))
    except ExternalError:
        raise
    except RuntimeError as error:  # memory has run out, or a network of the user's own fails on these images
        reason = f"images {chunk[0]:,} to {chunk[1]:,}: {first_line(error)}"
        raise UnusableFeaturesError(f"{extractor.name} cannot compute features ({reason})") from error
    return torch.cat([features, logits], dim=1) if score and logits is not None else features


def _padded(rows: Tensor | None, extractor: Extractor, score: bool) -> Tensor:
    """The rows padded with zeros to CHUNK, since a gather needs equal shapes; rank 0 drops the padding."""
    if rows is not None and len(rows) == CHUNK:
        return rows
    width = extractor.feature_size + (extractor.classes if score else 0)
    padded = torch.zeros(CHUNK, width, device=extractor.device)
    if rows is not None:
        padded[: len(rows)] = rows
    return padded


class _Accumulator:
    """Builds the statistics on rank 0, chunk by chunk."""

    def __init__(self, count: int, extractor: Extractor, score: bool, all_features: bool):
        order = evaluation_order(count)
        self._size = extractor.feature_size
        self._moments = Moments(self._size)
        self._sampled = order[:MAX_SAMPLED_FEATURES].sort().values
        self._sampled_features = torch.empty(len(self._sampled), self._size)
        self._score = InceptionScore(count, SPLITS, order) if score else None
        self._all_features = all_features
        self._rows: list[Tensor] = []

    def update(self, rows: Tensor, start: int) -> None:
        """Adds rows (n, D) or (n, D + C) of images ``start`` to ``start`` + n - 1."""
        features, logits = rows[:, : self._size], rows[:, self._size :]
        self._moments.update(features)
        first, last = torch.searchsorted(self._sampled, torch.tensor([start, start + len(rows)])).tolist()
        self._sampled_features[first:last] = features[(self._sampled[first:last] - start).to(rows.device)].cpu()
        if self._score is not None:
            self._score.update(logits, start)
        if self._all_features:
            self._rows.append(rows.cpu())

    def result(self) -> FeatureStatistics:
        """The statistics of all rows added."""
        rows = torch.cat(self._rows) if self._all_features else None
        return FeatureStatistics(
            self._moments,
            self._sampled_features,
            self._score.result() if self._score is not None else None,
            rows[:, : self._size] if rows is not None else None,
            rows[:, self._size :] if rows is not None and self._score is not None else None,
        )
