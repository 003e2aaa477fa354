"""Modes found and lost, where the data's modes are known: which ones the samples reach, and how evenly.

Metrics as in VEEGAN (arXiv:1705.07761) and PacGAN (arXiv:1712.04086). Published tables differ in the radius and
deviation of the mixtures, in what a high-quality sample is, and in whether the others count in the divergence; here

- a high-quality sample lies within three standard deviations of a centre, in Euclidean distance;
- a mode is found if it has a high-quality sample (of images: if any sample is of its class);
- the reverse KL divergence is that of the samples' shares from the data's, sum q_i log(q_i / p_i), in nats; every
  sample counts for its nearest centre.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import binomtest
from torch import Tensor

from d3gan.data.load import load_labels
from d3gan.data.points import Mixture
from d3gan.data.published.catalog import STACKED_MNIST
from d3gan.distributed.group import Group
from d3gan.evaluation.digits import digit_classifier
from d3gan.evaluation.feature_statistics import CHUNK, Source
from d3gan.evaluation.metric_names import metric_name
from d3gan.evaluation.metrics.errors import interval
from d3gan.randomness import stream

GOOD_DEVIATIONS = 3.0
"""Standard deviations from a centre up to which a sample is of high quality."""


class ModeJudge(Protocol):
    """Says of which mode a sample is."""

    identity: str
    """All that decides the modes; part of the metrics' names."""
    shares: npt.NDArray[np.float64]
    """(M,) each mode's share of the data."""

    def __call__(self, samples: Tensor) -> tuple[Tensor, Tensor | None]:
        """The mode of each sample, (N,) int64, and whether it is of high quality, (N,) bool; None: unknown."""


class MixtureJudge:
    """Judges points (N, 2) by the centres of the mixture that the data were drawn from."""

    def __init__(self, mixture: Mixture):
        self.identity = mixture.identity
        self._centers = torch.from_numpy(mixture.centers)
        self._radius = GOOD_DEVIATIONS * mixture.deviation
        self.shares = np.full(len(self._centers), 1 / len(self._centers))

    def __call__(self, samples: Tensor) -> tuple[Tensor, Tensor | None]:
        """See ``ModeJudge``."""
        distances, modes = torch.cdist(samples.cpu().double(), self._centers).min(dim=1)
        return modes, distances <= self._radius


class StackedJudge:
    """Judges images (N, 3, S, S) uint8 of stacked MNIST by their three digits: 1,000 modes.

    Every image counts for the digits that it resembles most; none is of low quality.

    Args:
        image_size: side of the images in pixels.
        data_dir: folder of the data files; see ``d3gan.data.locate.data_folder``.
        device: where the digits are classified.

    Raises:
        ExternalError: MNIST is not available, or the classifier cannot be trained or kept.
    """

    identity = STACKED_MNIST.name

    def __init__(self, image_size: int, data_dir: str | None, device: torch.device):
        self._classifier = digit_classifier(image_size, data_dir, device)
        labels = load_labels(STACKED_MNIST.source, data_dir=data_dir)
        digits = np.bincount(labels, minlength=10) / len(labels)
        self.shares = np.einsum("r,g,b->rgb", digits, digits, digits).ravel()

    def __call__(self, samples: Tensor) -> tuple[Tensor, Tensor | None]:
        """See ``ModeJudge``."""
        return self._classifier.classify(samples), None


@dataclass(frozen=True)
class ModeCounts:
    """How many samples are of each mode."""

    all: npt.NDArray[np.int64]
    """(M,)"""
    good: npt.NDArray[np.int64] | None
    """(M,) those of high quality; None where that is unknown."""


def count_modes(
    source: Source, count: int, judge: ModeJudge, group: Group, advance: Callable[[int], None] = lambda _: None
) -> ModeCounts:
    """Counts the modes of samples 0 to ``count`` - 1; all processes of the group must call it.

    Args:
        source: gives the samples.
        count: number of samples.
        judge: says of which mode each is.
        group: the processes that share the work.
        advance: called with the number of samples done since the last call, in all processes after the same ones.

    Returns:
        The counts over all processes, in each of them.

    Raises:
        ExternalError: in all processes, if the samples of any of them cannot be used.
    """
    modes = len(judge.shares)
    counts, known = np.zeros((2, modes), np.int64), True
    chunks = [(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    for first in range(0, len(chunks), group.world_size):
        with group.raise_on_all_ranks():
            if (index := first + group.rank) < len(chunks):
                found, good = judge(source(*chunks[index]))
                counts[0] += np.bincount(found.cpu().numpy(), minlength=modes)
                known = good is not None
                if good is not None:
                    counts[1] += np.bincount(found[good].cpu().numpy(), minlength=modes)
        advance(sum(stop - start for start, stop in chunks[first : first + group.world_size]))
        group.heartbeat(f"sample {chunks[first][0]:,} of an evaluation")
    everyones = group.all_gather((counts, known))
    together = np.sum([each for each, _ in everyones], axis=0)
    return ModeCounts(together[0], together[1] if all(known for _, known in everyones) else None)


def mode_metrics(counts: ModeCounts, judge: ModeJudge, replicates: int = 0) -> dict[str, Any]:
    """The metrics by name: ``modes_``, ``quality_`` (share of high-quality samples) and ``kl_`` with the data's name.

    Args:
        counts: of at least one sample.
        judge: that made them.
        replicates: of the bootstrap of the divergence's interval; 0: no intervals.
    """
    total = int(counts.all.sum())
    name = {word: metric_name(word, judge.identity) for word in ("modes", "quality", "kl")}
    metrics: dict[str, Any] = {
        name["modes"]: float(np.count_nonzero(counts.all if counts.good is None else counts.good))
    }
    if counts.good is not None:
        metrics[name["quality"]] = float(counts.good.sum() / total)
        if replicates:
            # Wilson's: it has a width at 0 and 1 too.
            low, high = binomtest(int(counts.good.sum()), total).proportion_ci(method="wilson")
            metrics[f"{name['quality']}_interval"] = [float(low), float(high)]
    divergence = metrics[name["kl"]] = reverse_kl(counts.all, judge.shares)
    if replicates:
        seed = int(torch.randint(2**31, (), generator=stream(0, "bootstrap", 2)))
        draws = np.random.default_rng(seed).multinomial(total, counts.all / total, replicates)
        error = float(np.std([reverse_kl(each, judge.shares) for each in draws], ddof=1))
        metrics[f"{name['kl']}_interval"] = interval(divergence, error)
    return metrics


def reverse_kl(counts: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]) -> float:
    """Sum of q_i log(q_i / p_i) in nats, of the counts' shares q from the data's shares p; at least 0."""
    found = counts > 0
    q = counts[found] / counts.sum()
    return max(0.0, float(np.sum(q * np.log(q / shares[found]))))
