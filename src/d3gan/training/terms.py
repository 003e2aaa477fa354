"""Terms that compare discriminators with each other: microbatchGAN's and DuelGAN's, added to the adversarial loss.

Computed in at least float32. s(a) = log(1 + e^a) is the softplus.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from d3gan.training.losses import fake_loss, real_loss


@dataclass(frozen=True)
class Terms:
    """The terms of a run, by their weights; one of weight 0 is not computed.

    Both follow the run, so that a discriminator first learns to distinguish real from fake images.
    """

    microbatch_alpha: float = 0.0
    """α at the end of the run. The paper lets it grow; a line from 0 is the simplest way."""
    duel_beta: float = 0.0
    """β at the middle of the run; 0 at both ends."""
    duel_alpha: float = 0.0
    """α of the duel at the middle of the run; 0 at both ends."""

    def __bool__(self) -> bool:
        return self.microbatch_alpha > 0 or self.duel_beta > 0

    def of_discriminators(
        self,
        discriminators: Sequence[nn.Module],
        images: tuple[Tensor, Tensor],
        others: Sequence[tuple[Tensor, ...]],
        mixtures: Tensor | None,
        progress: Tensor | None,
        labels: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """What each discriminator minimizes in addition, (K,), with its weight.

        Args:
            discriminators: K of them.
            images: real and fake, (N, C, H, W) each, detached.
            others: the fake images of the other slices, with classes also their labels, for each discriminator; empty
                without microbatchGAN's term.
            mixtures: (3, M) int64, for the duel; see ``duel``.
            progress: () share of the run that is done, in [0, 1).
            labels: of the real and of the fake images, (N,) int64 each, with classes.
        """
        assert progress is not None, "the terms follow the run"
        total = progress.new_zeros(len(discriminators))
        if self.microbatch_alpha:
            pairs = zip(discriminators, others, strict=True)
            total = total + self.microbatch(progress) * torch.stack(
                [real_loss(each(*fakes)) for each, fakes in pairs]
            )
        if self.duel_beta:
            assert mixtures is not None, "a duel needs mixtures of images"
            rise = parabola(progress)
            of_images = None if labels is None else torch.cat(labels)
            term = duel(discriminators, torch.cat(images), mixtures, self.duel_alpha * rise, of_images)
            total = total + self.duel_beta * rise * term
        return total

    def of_generator(self, logits: Tensor, progress: Tensor | None) -> Tensor:
        """What microbatchGAN's generator minimizes in addition against each discriminator, (...,), with its weight.

        Args:
            logits: (..., M) of discriminator k for the fake images of the other slices.
            progress: as in ``of_discriminators``.
        """
        assert progress is not None, "the terms follow the run"
        return self.microbatch(progress) * fake_loss(logits)

    def microbatch(self, progress: Tensor) -> Tensor:
        """The α of microbatchGAN, ().

        Discriminator k maximizes α log sigmoid(D_k) of the fake images of other slices, so that it distinguishes its
        own fakes from theirs; the generator minimizes that, in its non-saturating form: α mean s(-D_k) and
        α mean s(D_k). After the abstract of Mordido et al., arXiv:2001.03376.
        """
        return self.microbatch_alpha * progress


def parabola(progress: Tensor) -> Tensor:
    """4 p (1 - p), from 0 over 1 at half the run to 0: -4e-4 t (t - 100) in percent, as in DuelGAN's program."""
    return 4 * progress * (1 - progress)


def duel(
    discriminators: Sequence[nn.Module],
    images: Tensor,
    mixtures: Tensor,
    alpha: Tensor,
    labels: Tensor | None = None,
) -> Tensor:
    """DuelGAN's term of each discriminator, (K,), without β: H(D_k(u1), D_j(u1)) - α H(D_k(u2), D_j(u3)).

    H(a, b) = -mean sigmoid(b) log sigmoid(a), with b as a constant: discriminators shall agree on the same images,
    and not on unrelated ones. The mean over the others, j ≠ k; the paper has two discriminators (Wei et al.,
    arXiv:2101.07524). The authors' program adds the value of this term as a constant, so that it has no gradient.

    Args:
        discriminators: K >= 2 of them.
        images: (2 N, C, H, W), the real ones and then the fake ones.
        mixtures: (3, M) int64: which of the images are in u1, u2 and u3.
        alpha: ().
        labels: (2 N,) int64 of the images, of discriminators with classes.
    """

    def logits(u: Tensor) -> Tensor:
        chosen = (images[u],) if labels is None else (images[u], labels[u])
        return _at_least_float32(torch.stack([each(*chosen) for each in discriminators]))

    same, own = logits(mixtures[0]), logits(mixtures[1])
    with torch.no_grad():
        unrelated = logits(mixtures[2])
    return _cross_entropy(same, same) - alpha * _cross_entropy(own, unrelated)


def _cross_entropy(a: Tensor, b: Tensor) -> Tensor:
    """The mean over j ≠ k of H(a_k, b_j), (K,), of logits (K, M) each."""
    probabilities = b.detach().sigmoid()
    of_others = (probabilities.sum(dim=0) - probabilities) / (len(probabilities) - 1)
    return (of_others * functional.softplus(-a)).mean(dim=1)


def draw_mixtures(count: int, rng: torch.Generator) -> Tensor:
    """Which images of a batch and its fakes are in u1, u2 and u3 of a duel: half of each, in random order.

    Args:
        count: N, images of either kind.
        rng: where to draw, on its device.

    Returns:
        (3, 2 (N // 2)) int64, from 0 for real images, from N for fake ones.
    """

    def order(length: int) -> Tensor:
        return torch.randperm(length, generator=rng, device=rng.device)

    half = count // 2
    return torch.stack(
        [torch.cat([order(count)[:half], order(count)[:half] + count])[order(2 * half)] for _ in range(3)]
    )


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.element_size() >= 4 else logits.float()
