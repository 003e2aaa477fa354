"""One training step of a GAN with K >= 1 discriminators: the discriminators' update, then the generator's.

DCGAN is the case K = 1. docs/algorithm.md has the formulae. ``accumulation.py`` takes the same step in several parts.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import one_hot
from torch.optim import Optimizer

from d3gan.augmentation.ada import AdaptiveAugmentation
from d3gan.augmentation.base import Augmentation
from d3gan.distributed.group import Group
from d3gan.models.base import GeneratorNetwork
from d3gan.models.discriminators import Discriminators
from d3gan.models.views import dropping
from d3gan.randomness import stream
from d3gan.training.losses import Loss
from d3gan.training.penalties import Penalties
from d3gan.training.terms import Terms
from d3gan.training.weighting import Weighting


@dataclass(frozen=True)
class GAN:
    """What a step works on: the networks, their optimizers, and the rules between them."""

    generator: GeneratorNetwork
    discriminators: Discriminators
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    loss: Loss
    """What each discriminator minimizes, and what the generator minimizes against each."""
    pairing: Callable[[Tensor], Tensor]
    """Fake losses (K,) -> the fake loss that joins each discriminator's real loss (K,)."""
    weighting: Weighting
    """How much each discriminator counts in the generator's loss."""
    penalties: Penalties
    """What regularises the discriminators; maybe nothing."""
    terms: Terms
    """What compares the discriminators with each other; maybe nothing."""
    d_steps: int
    """Updates of the discriminators per update of the generator."""
    autocast: Callable[[], AbstractContextManager[Any]]
    """The precision in which the networks are called."""
    ddp_generator: nn.Module
    """The generator in DistributedDataParallel, which averages its gradients; the generator itself in one process."""
    ddp_discriminators: nn.Module
    """The discriminators in DistributedDataParallel, or themselves."""
    group: Group = field(default_factory=Group)
    """The processes that train together."""
    workers: range | None = None
    """MD-GAN: the numbers, among all K, of this process's discriminators; ``discriminators`` holds only these. None:
    each process has all discriminators."""
    augmentation: Augmentation | None = None
    """What changes all images that the discriminators see; None: nothing."""

    def modules(self) -> dict[str, nn.Module]:
        """Everything that a step may change, apart from the optimizers, by its name in a checkpoint."""
        modules: dict[str, nn.Module] = {
            "generator": self.generator,
            "discriminators": self.discriminators,
            "weighting": self.weighting,
            "penalties": self.penalties,
        }
        return modules if self.augmentation is None else modules | {"augmentation": self.augmentation}

    def optimizers(self) -> dict[str, Optimizer]:
        """The optimizers, by their names in a checkpoint."""
        return {
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }


DISCRIMINATOR_PHASE, GENERATOR_PHASE = 0, 1
REAL, FAKE = 0, 1


@dataclass(frozen=True)
class StepContext:
    """What a step, or some of its batches, need besides images and latents: random numbers and places in the run.

    A key of the config asks for each; the others are left out.
    """

    step: int = 0
    """From 0; penalties with an interval are due in its multiples."""
    uniforms: Tensor | None = None
    """(K + 1,) in [0, 1), equal in all processes; for a rule over discriminators that draws."""
    mixing: Tensor | None = None
    """One number in [0, 1) for each real image; for the gradient penalty."""
    mixtures: Tensor | None = None
    """(batches, 3, M) int64, see ``d3gan.training.terms.draw_mixtures``; for a duel."""
    progress: Tensor | None = None
    """() share of the run that is done, in [0, 1); for terms that follow the run."""
    mask_seeds: tuple[int, ...] = ()
    """A seed for each batch; for discriminators with dropout."""
    partners: tuple[int, ...] | None = None
    """MD-GAN: before this step discriminator k changes places with partners[k]; None: all stay."""
    real_labels: Tensor | None = None
    """(d_steps N,) int64: the class of each real image; for networks with classes."""
    fake_labels: Tensor | None = None
    """(d_steps N,) int64: the class that each fake image is to be of."""
    augment: Tensor | None = None
    """(batches, 2, 2, N, draws) in [0, 1), of each batch, phase, and real or fake; for an augmentation."""

    def split(self, count: int) -> list["StepContext"]:
        """The contexts of ``count`` equal parts of the batches."""

        def parts(tensor: Tensor | None) -> Sequence[Tensor | None]:
            return tensor.chunk(count) if tensor is not None else [None] * count

        seeds = len(self.mask_seeds) // count
        names = "mixing", "mixtures", "real_labels", "fake_labels", "augment"
        return [
            replace(
                self, **dict(zip(names, each, strict=True)), mask_seeds=self.mask_seeds[i * seeds : (i + 1) * seeds]
            )
            for i, each in enumerate(zip(*(parts(getattr(self, name)) for name in names), strict=True))
        ]

    def rngs(self, phase: int, discriminators: int, device: torch.device) -> list[torch.Generator]:
        """Where the masks of each discriminator's dropout are drawn from, in a phase of the context's one batch."""
        (seed,) = self.mask_seeds
        return [stream(seed, "masks", phase, k, device=device) for k in range(discriminators)]


@dataclass(frozen=True)
class StepResult:
    """What one step measured, detached, on the device: means over all processes, except for ``generator_loss``.

    With several discriminator steps, the losses are those of the last one.
    """

    generator_loss: Tensor
    """() the weighted loss of this process's fake images, after the discriminators' update."""
    real_losses: Tensor
    """(K,) loss of each discriminator on the real images."""
    fake_losses: Tensor
    """(K,) loss of each discriminator on the fake images."""
    losses: Tensor
    """(K,) real loss plus paired fake loss."""
    weights: Tensor
    """(K,) weights of the discriminators in the generator's loss."""
    penalties: Tensor | None = None
    """(K,) weighted sum of each discriminator's penalties and terms; None where there are none."""
    ada: Tensor | None = None
    """(2,) ADA's p and r of the step; None without ADA."""

    @property
    def selected(self) -> Tensor:
        """() int64: the discriminator with the largest weight; of a one-hot rule, the one that trained G."""
        return self.weights.argmax()


Measured = dict[str, Tensor]
"""What the discriminators' update measured, (K,) each, by name."""


def train_step(gan: GAN, real_images: Tensor, latents: Tensor, context: StepContext | None = None) -> StepResult:
    """Updates every discriminator, then the generator.

    The host reads nothing back: on an accelerator the step is only queued. With several processes, each calls it with
    images and latents of its own. All of them update alike, because gradients, the losses and gradients that decide
    the weights, and the generator's BatchNorm statistics are means over the processes. Besides the gradients, that
    takes one all-reduce, and one more for rules that read the generator's losses or learn.

    Args:
        gan: updated in place.
        real_images: (d_steps N, C, H, W) in [-1, 1].
        latents: (d_steps N, nz). The generator is trained on the fake images of the last discriminator step.
        context: of this step; None: step 0 without random numbers.
    """
    context = context or StepContext()
    for reals, batch, own_context, is_last in discriminator_batches(gan, real_images, latents, context):
        labels = own_context.fake_labels
        fake_images = generate(gan, batch, labels) if is_last else generate_without_graph(gan, batch, labels)
        measured = update_discriminators(gan, reals, fake_images.detach(), own_context)
    measured, mean_statistics = average_over_ranks(gan, measured, running_statistics(gan.generator))

    weights, generator_losses, fake_logits = update_generator(
        gan, fake_images, reals, measured["losses"], own_context
    )
    set_running_statistics(gan.generator, mean_statistics)
    learn(gan, [(batch, own_context)], [fake_logits])
    return step_result(measured, weights, generator_losses)


def discriminator_batches(
    gan: GAN, real_images: Tensor, latents: Tensor, context: StepContext
) -> Iterator[tuple[Tensor, Tensor, StepContext, bool]]:
    """Real images, latents and context of each discriminator step, and whether it is the last."""
    count = gan.d_steps
    batches = zip(real_images.chunk(count), latents.chunk(count), context.split(count), strict=True)
    for number, batch in enumerate(batches, start=1):
        yield *batch, number == count


def generate(gan: GAN, latents: Tensor, labels: Tensor | None) -> Tensor:
    """Fake images (N, C, H, W) in [-1, 1], attached to the generator; with classes, of these labels (N,) int64."""
    with gan.autocast():
        return cast(Tensor, gan.ddp_generator(latents, labels))


def generate_without_graph(
    gan: GAN, latents: Tensor, labels: Tensor | None, buffers: dict[str, Tensor] | None = None
) -> Tensor:
    """Fake images (N, C, H, W) of the generator in training, detached.

    Args:
        gan: whose generator.
        latents: (N, nz).
        labels: (N,) int64, of a generator with classes.
        buffers: the running statistics that are updated, in place; None: the generator's own.
    """
    with torch.no_grad(), gan.autocast():
        return cast(Tensor, functional_call(gan.generator, buffers or {}, (latents, labels)))


def update_discriminators(
    gan: GAN, real_images: Tensor, fake_images: Tensor, context: StepContext | None = None
) -> Measured:
    """Updates every discriminator to distinguish real images from fake ones.

    Args:
        gan: its discriminators and their optimizer are updated in place.
        real_images: (N, C, H, W) in [-1, 1].
        fake_images: (N, C, H, W) in [-1, 1], detached from the generator.
        context: of this batch; None: step 0 without random numbers.

    Returns:
        As ``discriminator_losses``, in this process, before the update.
    """
    gan.discriminator_optimizer.zero_grad()
    objective, measured = discriminator_losses(gan, real_images, fake_images, context or StepContext())
    objective.backward()
    gan.discriminator_optimizer.step()
    return measured


def discriminator_losses(
    gan: GAN, real_images: Tensor, fake_images: Tensor, context: StepContext
) -> tuple[Tensor, Measured]:
    """What the discriminators minimize, (): the sum of their losses, penalties and terms; its parts, detached.

    Pairing only permutes the terms, so it changes neither the sum nor any gradient: only rules over discriminators
    that read the losses depend on it.
    """
    real_images = augmented(gan, real_images, context, DISCRIMINATOR_PHASE, REAL)
    fake_images = augmented(gan, fake_images, context, DISCRIMINATOR_PHASE, FAKE)
    real_labels, fake_labels = context.real_labels, context.fake_labels

    def penalize(members: list[nn.Module], logits: tuple[Tensor, Tensor]) -> Tensor:
        seen = gan.discriminators.seen
        parts: list[Tensor] = []
        if gan.penalties:
            mixing = seen(context.mixing) if context.mixing is not None else [None] * len(members)
            labels = [
                seen(each) if each is not None else [None] * len(members) for each in (real_labels, fake_labels)
            ]
            batches = list(zip(seen(real_images), seen(fake_images), mixing, *labels, strict=True))
            parts.append(gan.penalties(members, batches, logits, context.step))
        if gan.terms:
            mixtures = context.mixtures[0] if context.mixtures is not None else None
            others: list[tuple[Tensor, ...]] = []
            if gan.terms.microbatch_alpha:
                others = gan.discriminators.inputs(fake_images, fake_labels, others=True)
            images, of_images = (real_images, fake_images), None
            if real_labels is not None and fake_labels is not None:
                of_images = real_labels, fake_labels
            parts.append(gan.terms.of_discriminators(members, images, others, mixtures, context.progress, of_images))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    regularized = bool(gan.penalties) or bool(gan.terms)
    with gan.autocast(), masked(gan, DISCRIMINATOR_PHASE, context, real_images.device):
        real_logits, fake_logits, penalties = gan.ddp_discriminators(
            real_images, fake_images, penalize if regularized else None, real_labels, fake_labels
        )
    real_losses, fake_losses = gan.loss.discriminator(real_logits, fake_logits)
    objective = (real_losses + gan.pairing(fake_losses)).sum()
    measured = {"real_losses": real_losses, "fake_losses": fake_losses}
    if regularized:
        objective = objective + penalties.sum()
        measured["penalties"] = penalties
    if gan.penalties.remembers:
        dtype = real_images.dtype  # bf16 would round the means
        measured |= {
            "real_logits": real_logits.to(dtype).mean(dim=1),
            "fake_logits": fake_logits.to(dtype).mean(dim=1),
        }
    if isinstance(gan.augmentation, AdaptiveAugmentation):
        measured["real_signs"] = real_logits.sign().to(real_images.dtype).mean(dim=1)
    return objective, {name: value.detach() for name, value in measured.items()}


def augmented(gan: GAN, images: Tensor, context: StepContext, phase: int, kind: int) -> Tensor:
    """What the discriminators see of the real or the fake images (N, C, S, S) of a batch, attached to them.

    Each call for one phase of a batch changes them in the same way, so that it makes no difference how often a rule
    looks; all discriminators see the same.
    """
    if gan.augmentation is None:
        return images
    assert context.augment is not None, "an augmentation needs random numbers"
    (uniforms,) = context.augment
    return cast(Tensor, gan.augmentation(images, uniforms[phase, kind]))


def masked(gan: GAN, phase: int, context: StepContext, device: torch.device) -> AbstractContextManager[None]:
    """A block in which the discriminators' dropout drops, by masks of this batch, this phase and each discriminator.

    Each block of one phase of a batch draws the same masks, so that it makes no difference how often a rule looks.
    """
    if not context.mask_seeds:
        return nullcontext()
    members = list(gan.discriminators.members)
    return dropping(members, context.rngs(phase, len(members), device))


def average_over_ranks(gan: GAN, measured: Measured, statistics: list[Tensor]) -> tuple[Measured, list[Tensor]]:
    """Means over the processes, in one all-reduce; adds the paired losses; moves penalties' memory and ADA's p."""
    means = gan.group.mean([*measured.values(), *statistics])
    measured = dict(zip(measured, means, strict=False))
    measured["losses"] = measured["real_losses"] + gan.pairing(measured["fake_losses"])
    if gan.penalties.remembers:
        gan.penalties.observe(measured["real_logits"], measured["fake_logits"])
    if isinstance(gan.augmentation, AdaptiveAugmentation):
        measured["ada"] = gan.augmentation.observe(measured["real_signs"])
    return measured, means[len(means) - len(statistics) :]


def update_generator(
    gan: GAN, fake_images: Tensor, real_images: Tensor, losses: Tensor, context: StepContext
) -> tuple[Tensor, Tensor, Tensor]:
    """Updates the generator, and what the rule over discriminators learns with it.

    Args:
        gan: its generator and optimizer are updated in place.
        fake_images: (N, C, H, W) in [-1, 1], attached to the generator.
        real_images: (N, C, H, W) in [-1, 1].
        losses: (K,) paired losses of the discriminators before their update, means over the processes.
        context: of this batch.

    Returns:
        The weights (K,), and what ``generator_phase`` returns, detached.
    """
    gan.generator_optimizer.zero_grad()
    selected = gan.weighting.select(losses, context.uniforms)
    generator_losses, fake_logits = generator_phase(gan, fake_images, real_images, selected, context)
    seen = evidence(gan, generator_losses, fake_images, real_images, context)
    weights, derivatives = weigh(gan, selected, seen, context)
    (derivatives * generator_losses).sum().backward()
    gan.generator_optimizer.step()
    return weights, generator_losses.detach(), fake_logits


def generator_phase(
    gan: GAN,
    fake_images: Tensor,
    real_images: Tensor,
    selected: Tensor | None,
    context: StepContext | None = None,
) -> tuple[Tensor, Tensor]:
    """The generator's loss against each discriminator that the rule calls, whose parameters take no gradient.

    Args:
        gan: with updated discriminators.
        fake_images: (N, C, H, W) in [-1, 1].
        real_images: (N, C, H, W) in [-1, 1]; only a relativistic loss looks at them.
        selected: () int64, or None for all.
        context: of this batch; None: step 0 without random numbers.

    Returns:
        The losses, () or (K,), and the logits of the fake images, (N,) or (K, N), detached; of slices (K, N / K).
    """
    context = context or StepContext()
    fake_images = augmented(gan, fake_images, context, GENERATOR_PHASE, FAKE)
    with gan.autocast(), masked(gan, GENERATOR_PHASE, context, fake_images.device):
        fake_logits = gan.discriminators.frozen_logits(fake_images, selected, labels=context.fake_labels)
        real_logits = None
        if gan.loss.relativistic:
            with torch.no_grad():
                real_images = augmented(gan, real_images, context, GENERATOR_PHASE, REAL)
                real_logits = gan.discriminators.frozen_logits(real_images, selected, labels=context.real_labels)
        if gan.terms.microbatch_alpha:
            others_logits = gan.discriminators.frozen_logits(
                fake_images, selected, labels=context.fake_labels, others=True
            )
    losses = gan.loss.generator(fake_logits, real_logits)
    if gan.terms.microbatch_alpha:
        losses = losses + gan.terms.of_generator(others_logits, context.progress)
    return losses, fake_logits.detach()


def evidence(
    gan: GAN, generator_losses: Tensor, fake_images: Tensor, real_images: Tensor, context: StepContext
) -> Tensor:
    """What the rule reads of this process's generator phase: see ``Weighting.forward``."""
    if gan.weighting.reads != "gradients":
        return generator_losses.detach()
    parameters, gradients = list(gan.generator.parameters()), []
    for k in range(gan.weighting.K):
        # One at a time: from the losses of all, each gradient would flow back through all K discriminators.
        loss, _ = generator_phase(gan, fake_images, real_images, torch.tensor(k), context)
        gradients.append(torch.autograd.grad(loss, parameters, retain_graph=True))
    return torch.stack([torch.cat([gradient.flatten() for gradient in each]) for each in gradients])


def weigh(gan: GAN, selected: Tensor | None, evidence: Tensor, context: StepContext) -> tuple[Tensor, Tensor]:
    """The weights (K,), and the derivative of the generator's objective by each loss: equal in all processes."""
    if selected is not None:
        return one_hot(selected, gan.weighting.K).to(evidence.dtype), torch.ones_like(evidence)
    if gan.weighting.reads != "nothing":
        (evidence,) = gan.group.mean([evidence])
    weights, derivatives = gan.weighting(evidence, context.uniforms)
    return weights, derivatives


def learn(gan: GAN, batches: Sequence[tuple[Tensor, StepContext]], logits_before: Sequence[Tensor]) -> None:
    """Tells a rule that learns by how much the generator's update raised each discriminator's mean sigmoid(D_k(x̂)).

    Args:
        gan: with the updated generator.
        batches: latents (N, nz) and context of each.
        logits_before: of the images of each batch before the update, (K, N) each.
    """
    if not gan.weighting.learns:
        return
    progress = []
    for (latents, context), before in zip(batches, logits_before, strict=True):
        labels = context.fake_labels
        fake_images = generate_without_graph(gan, latents, labels, own_buffers(gan.generator))
        fake_images = augmented(gan, fake_images, context, GENERATOR_PHASE, FAKE)
        with torch.no_grad(), gan.autocast(), masked(gan, GENERATOR_PHASE, context, latents.device):
            after = gan.discriminators.frozen_logits(fake_images, labels=labels)
        # In the latents' type: bf16 would round the progress away.
        progress.append((after.to(latents.dtype).sigmoid() - before.to(latents.dtype).sigmoid()).mean(dim=-1))
    (rewards,) = gan.group.mean([torch.stack(progress).mean(dim=0)])
    gan.weighting.learn(rewards)


def step_result(measured: Measured, weights: Tensor, generator_losses: Tensor) -> StepResult:
    """A step's result; ``generator_losses`` are () of the selected discriminator, or (K,)."""
    loss = (weights * generator_losses).sum() if generator_losses.ndim else generator_losses
    shown = {name: measured[name] for name in ("real_losses", "fake_losses", "losses")}
    others = {name: measured.get(name) for name in ("penalties", "ada")}
    return StepResult(loss, weights=weights, **shown, **others)  # type: ignore[arg-type]


def own_buffers(generator: nn.Module) -> dict[str, Tensor]:
    """Copies of the generator's buffers, for a call that leaves the generator as it is."""
    return {name: buffer.clone() for name, buffer in generator.named_buffers()}


def running_statistics(generator: nn.Module) -> list[Tensor]:
    """The generator's BatchNorm means and variances over the batches seen so far: what it samples with."""
    return [buffer for buffer in generator.buffers() if buffer.is_floating_point()]


def set_running_statistics(generator: nn.Module, values: list[Tensor]) -> None:
    """Sets them in place; only after the generator's backward pass, which still needs the old ones."""
    for statistic, value in zip(running_statistics(generator), values, strict=True):
        statistic.copy_(value)
