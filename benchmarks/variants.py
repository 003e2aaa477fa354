"""The training step with one technique more or less than ours, for benchmarks/step.py.

Each variant computes our step, up to rounding; ``difference`` measures that in float64.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from d3gan import TrainConfig
from d3gan.devices import Precision, network_dtype
from d3gan.models import matmul_convolution
from d3gan.models.dcgan import Discriminator
from d3gan.models.discriminators import Discriminators, Penalize
from d3gan.training.acceleration import Step, accelerate
from d3gan.training.setup import build_gan, make_augmentation
from d3gan.training.step import GAN, StepContext
from d3gan.training.terms import draw_mixtures

DiscriminatorsForward = Callable[[Discriminators, Tensor, Tensor], tuple[Tensor, Tensor]]
PlainStep = Callable[[Tensor, Tensor], Any]
"""A training step as a function of real images and latents."""
Inside = Callable[[], AbstractContextManager[Any]]


class Variant(NamedTuple):
    """A way to compute the step."""

    name: str
    step_of: Callable[[GAN], Step]
    inside: Inside = nullcontext
    """The context in which the step runs."""


def plain(gan: GAN) -> Step:
    """The step as written, neither compiled nor captured in a CUDA graph."""
    return accelerate(gan, 1, compile=False, cuda_graph=False)


def variants_for(device: torch.device, precision: Precision, discriminators: int) -> list[Variant]:
    """Our step, and the variants that a device can run."""
    variants = [Variant("ours", plain)]
    if device.type == "cpu" and precision != "float64":
        variants += [Variant("PyTorch's convolutions", plain, plain_convolutions)]
    variants += [
        Variant("not channels last", _not_channels_last),
        Variant("Adam fused", _fused_adam),
        Variant("real and fake in one pass", plain, _with_forward(_in_one_pass)),
        Variant("torch.compile", lambda gan: accelerate(gan, 1, compile=True, cuda_graph=False)),
    ]
    if discriminators > 1:
        variants += [
            Variant("discriminators by vmap", plain, _with_forward(_by_vmap)),
            Variant("discriminators as grouped convolutions", plain, _with_forward(_grouped)),
        ]
    if device.type == "cuda":
        variants += [Variant("CUDA graph", lambda gan: accelerate(gan, 1, compile=False, cuda_graph=True))]
        if discriminators > 1:
            variants += [Variant("discriminators on two streams", plain, _with_forward(_on_streams))]
    return variants


def difference(variant: Variant, config: TrainConfig, device: torch.device, steps: int = 3) -> float:
    """Largest difference of a weight from plain PyTorch's, in float64, after some steps of small networks."""
    small = {"image_size": 32, "ngf": 8, "ndf": 8, "nz": 8, "batch_size": 8}
    config = TrainConfig(**(vars(config) | small))
    weights = []
    for each, fewest in ((Variant("", plain), {}), (variant, {torch.float64: matmul_convolution.Fewest(1)})):
        gan = build_gan(config, device, "float64")
        rng = torch.Generator().manual_seed(0)
        step = each.step_of(gan)
        with _products(fewest), each.inside():
            for _ in range(steps):
                shape = (8, config.nc, 32, 32)
                images = torch.rand(shape, generator=rng, dtype=torch.float64) * 2 - 1
                latents = torch.randn(8, config.nz, generator=rng, dtype=torch.float64)
                step(images.to(device), latents.to(device), context_of(config, device))
        networks = (gan.generator, gan.discriminators)
        weights.append(torch.cat([p.detach().flatten() for network in networks for p in network.parameters()]))
    return float((weights[0] - weights[1]).abs().max())


def build_variant(variant: Variant, config: TrainConfig, device: torch.device, precision: Precision) -> PlainStep:
    """The variant's step on new networks."""
    step = variant.step_of(build_gan(config, device, precision))
    dtype, context = network_dtype(precision), context_of(config, device)
    return lambda images, latents: step(images.to(dtype), latents.to(dtype), context)


def context_of(config: TrainConfig, device: torch.device) -> StepContext:
    """The same random numbers for each step, from the middle of a run, whether or not the model asks for any."""
    rng = torch.Generator().manual_seed(0)
    uniforms, mixtures = (
        torch.rand(config.recipe.discriminators + 1, generator=rng),
        draw_mixtures(config.batch_size, rng),
    )
    augmentation = make_augmentation(config)
    draws = torch.rand(
        1, 2, 2, config.batch_size, augmentation.draws if augmentation is not None else 0, generator=rng
    )
    return StepContext(
        uniforms=uniforms.to(device),
        mixtures=mixtures[None].to(device),
        progress=torch.full((), 0.5, device=device),
        mask_seeds=(0,) if "dropout" in config.view_names else (),
        augment=draws.to(device),
    )


def _not_channels_last(gan: GAN) -> Step:
    for network in (gan.generator, gan.discriminators):
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return plain(gan)


def _fused_adam(gan: GAN) -> Step:
    for optimizer in (gan.generator_optimizer, gan.discriminator_optimizer):
        for group in optimizer.param_groups:
            group["fused"] = True
    return plain(gan)


@contextmanager
def _products(fewest: dict[torch.dtype, matmul_convolution.Fewest]) -> Iterator[None]:
    """A block in which layers of at least so many channels use matrix products; types that are missing do not."""
    ours = dict(matmul_convolution.FEWEST)
    matmul_convolution.FEWEST.clear()
    matmul_convolution.FEWEST.update(fewest)
    try:
        yield
    finally:
        matmul_convolution.FEWEST.clear()
        matmul_convolution.FEWEST.update(ours)


def plain_convolutions() -> AbstractContextManager[None]:
    """A block in which all convolutions are PyTorch's."""
    return _products({})


def _with_forward(forward: DiscriminatorsForward) -> Inside:
    """A block in which the discriminators have another forward pass; no penalty is measured."""

    def without_penalties(
        self: Discriminators, real_images: Tensor, fake_images: Tensor, _: Penalize | None
    ) -> tuple[Tensor, Tensor, None]:
        return *forward(self, real_images, fake_images), None

    @contextmanager
    def inside() -> Iterator[None]:
        ours = Discriminators.forward
        Discriminators.forward = without_penalties  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            Discriminators.forward = ours  # type: ignore[method-assign]

    return inside


def _in_one_pass(self: Discriminators, real_images: Tensor, fake_images: Tensor) -> tuple[Tensor, Tensor]:
    """Real and fake images in one batch, with BatchNorm statistics for each half."""

    def logits_of(discriminator: Discriminator, images: Tensor) -> Tensor:
        for layer in discriminator.layers:
            halves = images[:half], images[half:]
            images = torch.cat([layer(h) for h in halves]) if isinstance(layer, nn.BatchNorm2d) else layer(images)
        return images.flatten()

    half, images = len(real_images), torch.cat([real_images, fake_images])
    logits = torch.stack([logits_of(d, images) for d in self.members])  # type: ignore[arg-type]
    return logits[:, :half], logits[:, half:]


def _by_vmap(self: Discriminators, real_images: Tensor, fake_images: Tensor) -> tuple[Tensor, Tensor]:
    """All discriminators as one function of stacked parameters."""
    names = [name for name, _ in self.members[0].named_parameters()]
    stacked = {name: torch.stack([d.get_parameter(name) for d in self.members]) for name in names}

    def logits_of(parameters: dict[str, Tensor], images: Tensor) -> Tensor:
        result: Tensor = functional_call(self.members[0], parameters, (images,))
        return result

    kind = real_images.device.type
    if torch.is_autocast_enabled(kind):  # which has no effect inside vmap
        dtype = torch.get_autocast_dtype(kind)
        stacked = {name: p.to(dtype) for name, p in stacked.items()}
        real_images, fake_images = real_images.to(dtype), fake_images.to(dtype)
    with plain_convolutions():  # vmap has no rule for ours
        batched = torch.vmap(logits_of, in_dims=(0, None))
        return batched(stacked, real_images), batched(stacked, fake_images)


def _grouped(self: Discriminators, real_images: Tensor, fake_images: Tensor) -> tuple[Tensor, Tensor]:
    """All discriminators as one network with K times the channels and convolutions in K groups."""
    K = len(self)
    members: list[Discriminator] = list(self.members)  # type: ignore[arg-type]

    def logits_of(images: Tensor) -> Tensor:
        maps = images.repeat(1, K, 1, 1)
        for layers in zip(*(d.layers for d in members), strict=True):
            first = layers[0]
            if isinstance(first, nn.Conv2d):
                weight = torch.cat([layer.weight for layer in layers])
                maps = functional.conv2d(maps, weight, None, first.stride, first.padding, groups=K)
            elif isinstance(first, nn.BatchNorm2d):
                weight, bias = (torch.cat([getattr(layer, n) for layer in layers]) for n in ("weight", "bias"))
                maps = functional.batch_norm(maps, None, None, weight, bias, training=True, eps=first.eps)
            else:
                maps = first(maps)
        return maps.flatten(1).t()

    return logits_of(real_images), logits_of(fake_images)


def _on_streams(self: Discriminators, real_images: Tensor, fake_images: Tensor) -> tuple[Tensor, Tensor]:
    """Each discriminator on its own CUDA stream; PyTorch runs its backward pass there too."""
    current = torch.cuda.current_stream()
    outputs = []
    for discriminator in self.members:
        stream = torch.cuda.Stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            outputs.append((discriminator(real_images), discriminator(fake_images), stream))
    for *logits, stream in outputs:
        current.wait_stream(stream)
        for each in logits:
            each.record_stream(current)
    return torch.stack([real for real, _, _ in outputs]), torch.stack([fake for _, fake, _ in outputs])
