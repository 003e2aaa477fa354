"""Regularisers of the discriminators' loss: gradient penalties and LeCam, each with a weight and an interval.

A new gradient penalty is a function here and a line in ``GRADIENT_PENALTIES``, with its name in
``d3gan.config.combinations``. Computed in at least float32, whatever the precision of the networks.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Penalty(NamedTuple):
    """One regulariser."""

    name: str
    """gp, r1, r2 or lecam."""
    weight: float
    """Its factor: λ of the gradient penalty and of LeCam, γ of R1 and R2 (whose terms are γ/2 times the mean)."""
    every: int
    """It is added in every so many steps, multiplied by their number ("lazy", StyleGAN2, arXiv:1912.04958, B)."""


def r1(
    discriminator: nn.Module,
    real_images: Tensor,
    fake_images: Tensor,
    mixing: Tensor | None,
    real_labels: Tensor | None = None,
    fake_labels: Tensor | None = None,
) -> Tensor:
    """½ mean ‖∇D(x)‖² over the real images, () (Mescheder et al., arXiv:1801.04406, equation 9)."""
    return _gradients(discriminator, real_images, real_labels).square().sum(dim=1).mean() / 2


def r2(
    discriminator: nn.Module,
    real_images: Tensor,
    fake_images: Tensor,
    mixing: Tensor | None,
    real_labels: Tensor | None = None,
    fake_labels: Tensor | None = None,
) -> Tensor:
    """½ mean ‖∇D(x̂)‖² over the fake images, () (arXiv:1801.04406, equation 10)."""
    return _gradients(discriminator, fake_images, fake_labels).square().sum(dim=1).mean() / 2


def gradient_penalty(
    discriminator: nn.Module,
    real_images: Tensor,
    fake_images: Tensor,
    mixing: Tensor | None,
    real_labels: Tensor | None = None,
    fake_labels: Tensor | None = None,
) -> Tensor:
    """The mean of (‖∇D(x̃)‖ - 1)², x̃ = ε x + (1 - ε) x̂, () (Gulrajani et al., arXiv:1704.00028, equation 3).

    Args:
        discriminator: one of them.
        real_images: (N, C, H, W).
        fake_images: (N, C, H, W).
        mixing: (N,) ε in [0, 1), one for each image.
        real_labels: (N,) int64, of a discriminator with classes: a mixed image has the class of its real one. (The
            paper has no classes; the fake image's would be as good a choice.)
        fake_labels: not used.
    """
    assert mixing is not None, "the gradient penalty mixes images at random"
    mixed = torch.lerp(fake_images, real_images, mixing.to(real_images.dtype)[:, None, None, None])
    norms: Tensor = torch.linalg.vector_norm(_gradients(discriminator, mixed, real_labels), dim=1)
    return (norms - 1).square().mean()


def _gradients(discriminator: nn.Module, images: Tensor, labels: Tensor | None) -> Tensor:
    """The gradient of each image's logit with respect to the image, (N, C H W), differentiable."""
    images = images.detach().requires_grad_()
    logits = discriminator(images) if labels is None else discriminator(images, labels)
    (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradients.flatten(1)


GRADIENT_PENALTIES: dict[str, Callable[..., Tensor]] = {
    "gp": gradient_penalty,
    "r1": r1,
    "r2": r2,
}

LECAM_DECAY = 0.99


class Penalties(nn.Module):
    """The regularisers of a run; LeCam's anchors are buffers, which checkpoints hold.

    LeCam (Tseng et al., arXiv:2104.03310, equation 3): mean relu(D(x) - a_F)² + mean relu(a_R - D(x̂))², where a_R
    and a_F are exponential means of D(x) and D(x̂) with decay 0.99 over the steps before. As in the authors' program
    they follow the last step until ``lecam_start``, and the term begins there.

    Args:
        penalties: what to add.
        discriminators: K.
        lecam_start: steps before LeCam begins.
    """

    real_anchor: Tensor
    fake_anchor: Tensor
    steps: Tensor

    def __init__(self, penalties: Sequence[Penalty], discriminators: int, lecam_start: int):
        super().__init__()
        self._penalties, self._lecam_start = tuple(penalties), lecam_start
        self.remembers = any(penalty.name == "lecam" for penalty in penalties)
        """Whether ``observe`` must be called after each step."""
        if self.remembers:
            self.register_buffer("real_anchor", torch.zeros(discriminators))
            self.register_buffer("fake_anchor", torch.zeros(discriminators))
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def __bool__(self) -> bool:
        return bool(self._penalties)

    @property
    def mixes(self) -> bool:
        """Whether ``forward`` needs random numbers to mix real and fake images."""
        return any(penalty.name == "gp" for penalty in self._penalties)

    def forward(
        self,
        discriminators: Sequence[nn.Module],
        batches: Sequence[tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]],
        logits: tuple[Tensor, Tensor],
        step: int,
    ) -> Tensor:
        """The sum of the penalties of each discriminator, (K,), with their weights.

        Args:
            discriminators: K of them.
            batches: what each sees: real and fake images, (N, C, H, W) each, detached, the real ones in at least
                float32; mixing, (N,) in [0, 1), if the gradient penalty is among them; the real and the fake images'
                labels, (N,) int64 each, with classes.
            logits: real and fake, (K, N) each.
            step: from 0; penalties with an interval are added in its multiples.
        """
        dtype, device = batches[0][0].dtype, batches[0][0].device
        total = logits[0].new_zeros(len(discriminators), dtype=dtype)
        for name, weight, every in self._penalties:
            if step % every:
                continue
            if name == "lecam":
                terms = self._lecam(*logits)
            else:
                penalty = GRADIENT_PENALTIES[name]
                with torch.autocast(device.type, enabled=False):
                    terms = torch.stack(
                        [
                            penalty(each, reals, fakes.to(dtype), *others)  # the generator's may be bf16
                            for each, (reals, fakes, *others) in zip(discriminators, batches, strict=True)
                        ]
                    )
            total = total + weight * every * terms
        return total

    def _lecam(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        real_logits, fake_logits = (logits.to(self.real_anchor.dtype) for logits in (real_logits, fake_logits))
        terms = (real_logits - self.fake_anchor[:, None]).relu().square().mean(dim=1)
        terms = terms + (self.real_anchor[:, None] - fake_logits).relu().square().mean(dim=1)
        return terms * (self.steps >= self._lecam_start)

    def observe(self, real_logits: Tensor, fake_logits: Tensor) -> None:
        """Moves the anchors towards this step's mean logits, (K,) each, means over all processes."""
        decay = LECAM_DECAY * (self.steps >= self._lecam_start).to(self.real_anchor.dtype)
        for anchor, logits in ((self.real_anchor, real_logits), (self.fake_anchor, fake_logits)):
            anchor.copy_(decay * anchor + (1 - decay) * logits)
        self.steps += 1
