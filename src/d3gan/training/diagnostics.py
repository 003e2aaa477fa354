"""How the discriminators fare: measured on the batches of a step whenever a line of metrics.jsonl is written.

It changes no network, and costs about a third of a step per line; ``diagnostics = False`` leaves it out.
"""

import logging
import math
from typing import Any

import torch
from torch import Tensor

from d3gan.training.md_gan import among_all, gans_of_workers
from d3gan.training.step import GAN, StepContext, generate_without_graph, own_buffers

logger = logging.getLogger("d3gan")

MOST_IMAGES = 1024
"""More tell no more, and ``separation`` compares each real image with each fake one."""
MANY_LINES = 20
"""Lines in a row after which a warning is logged."""
ONE_CRITIC, SATURATED = 0.99, 0.999
"""Agreement, and separation, above which a warning is logged."""


def diagnose(
    gan: GAN,
    real_images: Tensor,
    latents: Tensor,
    batch_size: int,
    context: StepContext | None = None,
    logits: dict[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Judges real and new fake images by every discriminator; all processes must call it.

    Each judges all of them, also where it is trained on slices, and none drops anything.

    Args:
        gan: stays as it is.
        real_images: (B N, C, H, W) in [-1, 1]: B batches; the first 1,024 of each count.
        latents: (B N, nz).
        batch_size: N.
        context: of the step, with the labels of networks with classes.
        logits: gets those that this process's discriminators gave, on the device: ``real_logits/K`` and
            ``fake_logits/K`` (up to B 1,024), K the discriminator's number.

    Returns:
        Means over the batches of all processes:
        ``real_signs`` (K), mean sign of D_k(x), from -1 to 1: near 1, discriminator k has learnt the images by heart
        (the r_t of Karras et al., arXiv:2006.06676, section 3.1; of losses whose boundary is not 0 it says nothing);
        ``separation`` (K), share of pairs with D_k(x) > D_k(x̂): ½ if it cannot distinguish them, 1 if it always can;
        ``gradient_norms`` (K), mean norm of the gradient of each fake image's loss l_k with respect to the image:
        what the generator could learn from discriminator k;
        ``agreement``, mean correlation of two discriminators' logits over the fake images: 1 if they judge alike;
        None with one discriminator, and for an MD-GAN, whose discriminators judge their own batches alone. A number
        that is not finite is None.
    """
    context = context or StepContext()
    if gan.workers is None:
        own, *judged = _means(gan, real_images, latents, batch_size, context)
        means = gan.group.mean(own)
    else:
        A = len(gan.workers)
        parts = zip(real_images.chunk(A), latents.chunk(A), context.split(A), strict=True)
        of_workers, reals_judged, fakes_judged = zip(
            *(
                _means(worker, reals, z, batch_size // A, own_context)
                for worker, (reals, z, own_context) in zip(gans_of_workers(gan), parts, strict=True)
            ),
            strict=True,
        )
        means = gan.group.mean([among_all(gan, each) for each in zip(*of_workers, strict=True)])
        judged = [torch.cat(reals_judged), torch.cat(fakes_judged)]
    if logits is not None:
        for name, each in zip(("real_logits", "fake_logits"), judged, strict=True):
            numbers = gan.workers or range(len(each))
            logits |= {f"{name}/{k}": of_one for k, of_one in zip(numbers, each, strict=True)}
    found: dict[str, Any] = {
        name: [_finite(number) for number in values.tolist()]
        for name, values in zip(("real_signs", "separation", "gradient_norms", "agreement"), means, strict=True)
    }
    compares = gan.workers is None and len(gan.discriminators) > 1
    return found | {"agreement": found["agreement"][0] if compares else None}


def _means(
    gan: GAN, real_images: Tensor, latents: Tensor, batch_size: int, context: StepContext
) -> tuple[list[Tensor], Tensor, Tensor]:
    """``_measure``'s figures, means over the batches, and the real and fake logits (K, B N) of all of them."""
    parts = real_images.split(batch_size), latents.split(batch_size)
    measured = []
    for reals, z, own in zip(*parts, context.split(len(parts[0])), strict=True):
        labels = (each[:MOST_IMAGES] if each is not None else None for each in (own.real_labels, own.fake_labels))
        measured.append(_measure(gan, reals[:MOST_IMAGES], z[:MOST_IMAGES], *labels))
    *figures, real, fake = zip(*measured, strict=True)
    return [torch.stack(each).mean(dim=0) for each in figures], torch.cat(real, dim=1), torch.cat(fake, dim=1)


def _measure(
    gan: GAN, real_images: Tensor, latents: Tensor, real_labels: Tensor | None, fake_labels: Tensor | None
) -> tuple[Tensor, ...]:
    """The figures of one batch, (K), (K), (K) and (1), and its real and fake logits, (K, N) each."""
    K, N, dtype = len(gan.discriminators), len(latents), real_images.dtype
    fake_images = generate_without_graph(gan, latents, fake_labels, own_buffers(gan.generator))
    with gan.autocast(), torch.no_grad():
        real_logits = torch.stack([gan.discriminators.member_logits(k, real_images, real_labels) for k in range(K)])
    copies = [fake_images.detach().requires_grad_() for _ in range(K)]
    with gan.autocast():
        judged = [gan.discriminators.member_logits(k, images, fake_labels) for k, images in enumerate(copies)]
    fake_logits = torch.stack(judged)
    gradients = torch.autograd.grad(gan.loss.generator(fake_logits, real_logits).sum(), copies)
    # l_k is a mean over N images.
    norms = torch.stack([N * gradient.to(dtype).flatten(1).norm(dim=1).mean() for gradient in gradients])

    real, fake = real_logits.to(dtype), fake_logits.detach().to(dtype)
    separation = (real[:, :, None] > fake[:, None, :]).to(dtype).mean(dim=(1, 2))
    agreement = norms.new_zeros(1)
    if K > 1:
        agreement = (torch.corrcoef(fake).sum() - K)[None] / (K * (K - 1))
    return real.sign().mean(dim=1), separation, norms, agreement, real, fake


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


class Alarms:
    """Warns once of discriminators that have become one, or that always distinguish real from fake images."""

    def __init__(self) -> None:
        self._lines = {"agreement": 0, "separation": 0}

    def look_at(self, step: int, diagnostics: dict[str, Any]) -> None:
        """Counts lines of metrics.jsonl in a row; logs a warning at the last of ``MANY_LINES``."""
        highest = max((each for each in diagnostics["separation"] if each is not None), default=0.0)
        if self._lasts("agreement", (diagnostics["agreement"] or 0.0) > ONE_CRITIC):
            logger.warning(
                f"step {step}: the discriminators have become one (agreement above {ONE_CRITIC} in {MANY_LINES} "
                "lines of metrics.jsonl): several cost more than one and judge alike"
            )
        if self._lasts("separation", highest > SATURATED):
            number = diagnostics["separation"].index(highest)
            logger.warning(
                f"step {step}: discriminator {number} distinguishes all real from all fake images (in {MANY_LINES} "
                "lines of metrics.jsonl): the generator may learn nothing more from it; try a penalty, "
                "--discriminator-norm spectral or a lower --lr-d"
            )

    def _lasts(self, name: str, is_high: bool) -> bool:
        self._lines[name] = self._lines[name] + 1 if is_high else 0
        return self._lines[name] == MANY_LINES
