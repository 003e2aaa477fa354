"""From a config to what it stands for: images, networks, optimisers, learning rate."""

import functools
import math
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from d3gan.augmentation.ada import AdaptiveAugmentation
from d3gan.augmentation.base import Augmentation
from d3gan.augmentation.diff_augment import DiffAugment
from d3gan.config.train_config import TrainConfig
from d3gan.data.load import ImageSet, load_images, points_of
from d3gan.data.points import mixture_of
from d3gan.devices import Precision, network_dtype
from d3gan.distributed.data_parallel import wrap
from d3gan.distributed.group import Group
from d3gan.errors import ConfigError
from d3gan.models import mlp
from d3gan.models.base import GeneratorNetwork
from d3gan.models.discriminators import Discriminators
from d3gan.models.matmul_convolution import use_matmul
from d3gan.models.networks import NETWORKS
from d3gan.models.spectral_norm import add_spectral_norm
from d3gan.models.views import PointProjection, RandomProjection, Viewing, add_dropout, keep_probability
from d3gan.models.widths import DIMENSIONS, WITHOUT_BATCH_NORM, discriminator_width, projection
from d3gan.randomness import stream
from d3gan.training.losses import PAIRINGS, make_loss
from d3gan.training.md_gan import workers_of
from d3gan.training.penalties import Penalties, Penalty
from d3gan.training.step import GAN
from d3gan.training.terms import Terms
from d3gan.training.weighting import WEIGHTINGS, Weighting


def images_of(config: TrainConfig) -> ImageSet:
    """The training images that a config names, fetched and prepared where need be; errors as ``load_images``."""
    if mixture := mixture_of(config.dataset, config.radius, config.deviation):
        return points_of(mixture)
    return load_images(
        config.dataset,
        image_size=config.image_size,
        channels=config.nc,
        data_dir=config.data_dir or None,
        workers=config.workers,
        labels=config.conditional,
        skip_damaged=config.skip_damaged,
    )


def build_gan(
    config: TrainConfig,
    device: torch.device,
    precision: Precision,
    group: Group | None = None,
    classes: int = 0,
) -> GAN:
    """Networks with their first weights, their optimisers and rules, on the device.

    The generator's weights depend on the seed alone, and discriminator k's on the seed and k, so models that differ
    in the number of discriminators start from the same networks.

    Args:
        config: of the run.
        device: of this process.
        precision: the arithmetic the networks are called in.
        group: the processes that train together; all of them must call it.
        classes: of the images, for networks with classes; 0: without.

    Raises:
        ConfigError: the device has no synchronised BatchNorm, or the processes cannot divide the discriminators.
    """
    group = group or Group()
    if config.sync_batchnorm and device.type != "cuda":
        raise ConfigError(f"sync_batchnorm = True: PyTorch has it for GPUs alone, this is {device}; leave it out")
    recipe, initialize = config.recipe, NETWORKS[config.resolved_network].initialize
    generator = _generator(config, classes)
    initialize(generator, stream(config.seed, "generator"))
    K = recipe.discriminators
    workers = workers_of(config, group)
    numbers = range(K) if workers is None else workers
    members = [_discriminator(config, k, classes) for k in numbers]
    for k, discriminator in zip(numbers, members, strict=True):
        initialize(discriminator, stream(config.seed, "discriminator", k))
    if device.type == "cpu":
        for network in (generator, *members):
            use_matmul(network)
    if config.resolved_norm == "spectral":
        for k, discriminator in zip(numbers, members, strict=True):
            add_spectral_norm(discriminator, stream(config.seed, "spectral norm", k))
    views = [_with_view(config, member, k) for k, member in zip(numbers, members, strict=True)]
    dtype = network_dtype(precision)
    # Channels last: the layout that CPU and GPU convolutions prefer (docs/performance.md); the numbers are the same
    # up to rounding.
    generator.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    discriminators = Discriminators(views, sliced="slice" in config.view_names)
    discriminators.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.sync_batchnorm and group.world_size > 1:  # the parameters stay the same objects
        nn.SyncBatchNorm.convert_sync_batchnorm(generator, group.processes)
        nn.SyncBatchNorm.convert_sync_batchnorm(discriminators, group.processes)
    weighting = make_weighting(config).to(device, dtype)
    penalties = Penalties([Penalty(*each) for each in config.penalties], K, config.lecam_start).to(device, dtype)
    augmentation = make_augmentation(config, group.world_size)
    generator_optimizer, discriminator_optimizer = _optimizers(config, generator, discriminators, weighting)
    gan = GAN(
        generator,
        discriminators,
        generator_optimizer,
        discriminator_optimizer,
        make_loss(recipe.loss, config.d2gan_alpha, config.d2gan_beta),
        PAIRINGS[recipe.pairing],
        weighting,
        penalties,
        Terms(recipe.microbatch_alpha, recipe.duel_beta, recipe.duel_alpha),
        config.d_steps,
        functools.partial(torch.autocast, device.type, torch.bfloat16, enabled=precision == "bf16"),
        wrap(generator, group),
        wrap(discriminators, group) if workers is None else discriminators,
        group,
        workers,
        augmentation.to(device, dtype) if augmentation is not None else None,
    )
    if group.world_size > 1:
        _lay_out_gradients(gan, device, dtype)
    return gan


def _generator(config: TrainConfig, classes: int) -> GeneratorNetwork:
    """The generator of the config's network."""
    if config.resolved_network == "mlp":
        return mlp.Generator(config.nz, config.ngf, config.recipe.activation)
    arguments: dict[str, Any] = dict(image_size=config.image_size, nz=config.nz, ngf=config.ngf, nc=config.nc)
    if config.resolved_network != "r3gan":  # which has an activation of its own
        arguments |= dict(activation=config.recipe.activation)
    return cast(GeneratorNetwork, NETWORKS[config.resolved_network].Generator(**arguments, classes=classes))


def _discriminator(config: TrainConfig, k: int, classes: int) -> nn.Module:
    """Discriminator k of the config's network for what it sees, before it has weights."""
    size, ndf, nc, batch_norm = config.image_size, config.ndf, config.nc, config.resolved_norm == "batch"
    projects = "projection" in config.view_names
    if "width" in config.view_names:
        ndf = discriminator_width(ndf, k, config.recipe.discriminators)
    if config.resolved_network == "mlp":
        return mlp.Discriminator(ndf, batch_norm, dimensions=1 if projects else DIMENSIONS)
    if projects:
        size, nc = projection(size).image_size, 1
    arguments: dict[str, Any] = dict(image_size=size, ndf=ndf, nc=nc, classes=classes)
    if config.resolved_network not in WITHOUT_BATCH_NORM:
        arguments |= dict(batch_norm=batch_norm)
    return cast(nn.Module, NETWORKS[config.resolved_network].Discriminator(**arguments))


def _with_view(config: TrainConfig, network: nn.Module, k: int) -> nn.Module:
    """Discriminator k with its dropout, behind its projection."""
    if "dropout" in config.view_names:
        add_dropout(network, keep_probability(k, config.recipe.discriminators))
    if "projection" in config.view_names:
        rng = stream(config.seed, "projection", k)
        if config.makes_points:
            return Viewing(PointProjection(DIMENSIONS, rng), network)
        return Viewing(RandomProjection(config.image_size, config.nc, rng), network)
    return network


def _lay_out_gradients(gan: GAN, device: torch.device, dtype: torch.dtype) -> None:
    """Runs one backward pass of each network and drops its gradients.

    After its first backward pass, DistributedDataParallel lays out gradients in the order in which they came. Where
    a gradient lies decides in which order an all-reduce adds up the parts of three and more processes. Without this
    pass, the first step after a resume would differ in its last bits from that of a run that was never stopped.
    """
    latents = torch.zeros(2, gan.generator.nz, device=device, dtype=dtype)
    count = 2 * len(gan.discriminators) if gan.discriminators.sliced else 2
    images = torch.zeros(count, *gan.generator.sample_shape, device=device, dtype=dtype)
    of_latents = of_images = None
    if gan.generator.classes:
        of_latents, of_images = (torch.zeros(n, device=device, dtype=torch.int64) for n in (2, count))
    of_discriminators = images, images, None, of_images, of_images
    for network, inputs in ((gan.ddp_generator, (latents, of_latents)), (gan.ddp_discriminators, of_discriminators)):
        buffers = [buffer.clone() for buffer in network.buffers()]
        with gan.autocast():
            outputs = network(*inputs)
        (outputs if isinstance(outputs, torch.Tensor) else torch.cat(outputs[:2])).sum().backward()
        for buffer, before in zip(network.buffers(), buffers, strict=True):
            buffer.copy_(before)
    gan.generator_optimizer.zero_grad()
    gan.discriminator_optimizer.zero_grad()


def make_weighting(config: TrainConfig) -> Weighting:
    """The config's rule over discriminators, with its own numbers."""
    sharpness = None if config.softmax_lambda == "learned" else config.softmax_lambda
    numbers: dict[str, tuple[Any, ...]] = {
        "softmax": (sharpness, config.softmax_gradient, config.softmax_challenge),
        "hypervolume": (config.hypervolume_slack,),
        "dropout": (config.dropout_rate,),
        "bandit": (config.bandit_alpha, config.bandit_kappa),
    }
    recipe = config.recipe
    return WEIGHTINGS[recipe.weighting](recipe.discriminators, *numbers.get(recipe.weighting, ()))


def make_augmentation(config: TrainConfig, world_size: int = 1) -> Augmentation | None:
    """What the config changes the discriminators' images by; ``world_size`` processes show ADA its images."""
    method, names = config.augmentation
    if method == "diffaugment":
        return DiffAugment(names)
    if method == "ada":
        return AdaptiveAugmentation(
            names,
            config.nc,
            config.image_size,
            config.images_per_step * world_size,
            config.ada_target,
            config.ada_length,
            None if config.ada_p == "" else config.ada_p,
            config.ada_ramp_up,
        )
    return None


def _optimizers(
    config: TrainConfig, generator: nn.Module, discriminators: nn.Module, weighting: Weighting
) -> tuple[torch.optim.Adam, torch.optim.Adam]:
    """Adam for each side; what a rule over discriminators learns is the generator's to learn."""
    groups = [{"params": list(generator.parameters())}]
    if learned := list(weighting.parameters()):
        groups.append({"params": learned})
    rate_d, *betas_d = config.discriminator_adam
    return (
        torch.optim.Adam(groups, lr=config.lr, betas=(config.beta1, config.beta2)),
        torch.optim.Adam(discriminators.parameters(), lr=rate_d, betas=(betas_d[0], betas_d[1])),
    )


class LearningRates(NamedTuple):
    """Learning rates of one step."""

    generator: float
    discriminators: float


def learning_rates(config: TrainConfig, step: int, steps_in_run: int, batches: int = 1) -> LearningRates:
    """Learning rates of a step.

    Args:
        config: of the run.
        step: from 0.
        steps_in_run: of all epochs, whatever ``max_steps`` says.
        batches: batches per update, of all processes. With ``lr_scaling`` = linear the rates grow with them (Goyal
            et al., arXiv:1706.02677, section 2.1; they say it of SGD, for Adam it is a habit).
    """
    done = step / steps_in_run
    shares = {"constant": 1.0, "linear": 1.0 - done, "cosine": (1.0 + math.cos(math.pi * done)) / 2}
    factor = batches if config.lr_scaling == "linear" else 1
    share = shares[config.recipe.schedule]
    return LearningRates(*(rate * factor * share for rate in (config.lr, config.discriminator_adam[0])))
