"""Losses, pairings and selections: pure functions on tensors.

A new one is a function here and a line where its names are listed (below, and the Literal in ``config``).
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional


def real_loss(logits: Tensor) -> Tensor:
    """Binary cross-entropy of logits against the label "real", averaged over the last dimension.

    BCE(sigmoid(l), 1) = softplus(-l): computed from the logit, it neither overflows nor loses the gradient where
    the sigmoid saturates (Goodfellow et al., arXiv:1406.2661, equation 1, first term; with fake images it is the
    non-saturating generator loss of section 3).

    Args:
        logits: (..., N) of any floating dtype; computed in at least float32.

    Returns:
        (...,) >= 0.
    """
    return functional.softplus(-_at_least_float32(logits)).mean(dim=-1)


def fake_loss(logits: Tensor) -> Tensor:
    """Binary cross-entropy of logits against the label "fake", averaged over the last dimension.

    BCE(sigmoid(l), 0) = softplus(l) (arXiv:1406.2661, equation 1, second term).

    Args:
        logits: (..., N) of any floating dtype; computed in at least float32.

    Returns:
        (...,) >= 0.
    """
    return functional.softplus(_at_least_float32(logits)).mean(dim=-1)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.element_size() >= 4 else logits.float()


def own(fake_losses: Tensor) -> Tensor:
    """Each discriminator keeps its own fake loss. (K,) -> (K,)."""
    return fake_losses


def swapped(fake_losses: Tensor) -> Tensor:
    """Discriminator k is given the fake loss of k + 1 modulo K; D3GAN's swap at K = 2. (K,) -> (K,)."""
    return fake_losses.roll(-1, dims=0)


def argmax(losses: Tensor) -> Tensor:
    """The discriminator with the largest loss, the lowest index of equal ones. (K,) -> () int64."""
    return losses.argmax(dim=0)


def argmin(losses: Tensor) -> Tensor:
    """The discriminator with the smallest loss, the lowest index of equal ones. (K,) -> () int64."""
    return losses.argmin(dim=0)


PAIRINGS: dict[str, Callable[[Tensor], Tensor]] = {"own": own, "swapped": swapped}
SELECTIONS: dict[str, Callable[[Tensor], Tensor]] = {"argmax": argmax, "argmin": argmin}
