"""The Inception Score."""

import torch
from torch import Tensor

from d3gan.evaluation.metrics.features import UnusableFeaturesError, require_finite, to_float64


class InceptionScore:
    """Inception Score of logits that come in blocks; memory does not grow with their number.

    Salimans et al. 2016 (arXiv:1606.03498): exp(mean of KL(p(y|x) || p(y))), for each of some splits.

    Args:
        count: number of images.
        splits: number of parts of the set, as equal as possible.
        order: (count,) int64: the images in the order in which consecutive runs become splits; None: 0, 1, 2, …

    Raises:
        UnusableFeaturesError: fewer images than splits.
    """

    def __init__(self, count: int, splits: int = 10, order: Tensor | None = None):
        if count < splits:
            raise UnusableFeaturesError(f"{count} images: the Inception Score of {splits} splits needs {splits}")
        self._splits = splits
        split = torch.arange(count) * splits // count
        self._split = split if order is None else torch.empty_like(split).scatter_(0, order, split)
        self._probabilities = torch.zeros(())  # (splits, C): sum of p
        self._entropies = torch.zeros(())  # (splits,): sum of p log p over images and classes
        self._images = torch.bincount(split, minlength=splits).double()
        self._count = 0

    def update(self, logits: Tensor, start: int) -> None:
        """Adds the logits (n, C) of images ``start`` to ``start`` + n - 1.

        Raises:
            UnusableFeaturesError: a number is not finite.
        """
        require_finite(logits, "logits")
        logs = to_float64(logits).log_softmax(dim=1)
        if not self._count:
            self._probabilities = logs.new_zeros(self._splits, logs.shape[1])
            self._entropies = logs.new_zeros(self._splits)
        split = self._split[start : start + len(logs)].to(logs.device)
        probabilities = logs.exp()
        self._probabilities.index_add_(0, split, probabilities)
        self._entropies.index_add_(0, split, (probabilities * logs).sum(dim=1))
        self._count += len(logs)

    def result(self) -> tuple[float, float]:
        """The mean over the splits and their standard deviation (with the number of splits as its denominator).

        Raises:
            ValueError: images are missing.
        """
        if self._count != len(self._split):
            raise ValueError(f"{self._count} of {len(self._split)} images were added")
        images = self._images.to(self._probabilities.device)
        # mean KL(p || m) = mean sum p log p - sum m log m, for m the mean of p
        means = self._probabilities / images[:, None]
        divergences = self._entropies / images - torch.special.xlogy(means, means).sum(dim=1)
        scores = divergences.exp()
        return float(scores.mean()), float(scores.std(correction=0))
