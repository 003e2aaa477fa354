"""The Inception Score."""

import torch
from torch import Tensor

from d3gan.evaluation.metrics.features import UnusableFeaturesError, _float64, require_finite


class InceptionScore:
    """Inception Score of logits that come in blocks; memory does not grow with their number.

    Salimans et al. 2016 (arXiv:1606.03498): exp(mean of KL(p(y|x) || p(y))), for each of some splits.

    Args:
        count: images in all.
        splits: parts that the images are dealt to, as evenly as can be.
        order: (count,) int64: the images in the order in which they are dealt, in consecutive runs; None: 0, 1, 2, …

    Raises:
        UnusableFeaturesError: fewer images than splits.
    """

    def __init__(self, count: int, splits: int = 10, order: Tensor | None = None):
        if count < splits:
            raise UnusableFeaturesError(f"{count} images: the Inception Score of {splits} splits needs {splits}")
        self._splits = splits
        place = torch.arange(count) * splits // count
        self._split = place if order is None else torch.empty_like(place).scatter_(0, order, place)
        self._probabilities = torch.zeros(())  # (splits, C): sum of p
        self._entropies = torch.zeros(())  # (splits,): sum of p log p over images and classes
        self._images = torch.bincount(place, minlength=splits).double()
        self._taken = 0

    def update(self, logits: Tensor, start: int) -> None:
        """Takes in the logits (n, C) of images ``start`` to ``start`` + n - 1.

        Raises:
            UnusableFeaturesError: a number is not finite.
        """
        require_finite(logits, "logits")
        logs = _float64(logits).log_softmax(dim=1)
        if not self._taken:
            self._probabilities = logs.new_zeros(self._splits, logs.shape[1])
            self._entropies = logs.new_zeros(self._splits)
        split = self._split[start : start + len(logs)].to(logs.device)
        chances = logs.exp()
        self._probabilities.index_add_(0, split, chances)
        self._entropies.index_add_(0, split, (chances * logs).sum(dim=1))
        self._taken += len(logs)

    def result(self) -> tuple[float, float]:
        """The mean over the splits and their standard deviation (with the number of splits as its denominator).

        Raises:
            ValueError: not all images were taken in.
        """
        if self._taken != len(self._split):
            raise ValueError(f"{self._taken} of {len(self._split)} images were taken in")
        images = self._images.to(self._probabilities.device)
        # mean KL(p || m) = mean sum p log p - sum m log m, for m the mean of p
        means = self._probabilities / images[:, None]
        divergences = self._entropies / images - torch.special.xlogy(means, means).sum(dim=1)
        scores = divergences.exp()
        return float(scores.mean()), float(scores.std(correction=0))
