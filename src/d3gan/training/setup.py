"""From a config to what it stands for: images, networks, optimisers, learning rate."""

import functools

import torch
from torch import nn

from d3gan.config.train_config import TrainConfig
from d3gan.data.load import ImageSet, load_images
from d3gan.devices import Precision, network_dtype
from d3gan.distributed.data_parallel import wrap
from d3gan.distributed.group import Group
from d3gan.errors import ConfigError
from d3gan.models.dcgan import Discriminator, Discriminators, Generator, initialize
from d3gan.models.matmul_convolution import use_matmul
from d3gan.randomness import stream
from d3gan.training.objectives import PAIRINGS, SELECTIONS
from d3gan.training.step import GAN


def images_of(config: TrainConfig) -> ImageSet:
    """The training images that a config names, fetched and prepared where need be; errors as ``load_images``."""
    return load_images(
        config.dataset,
        image_size=config.image_size,
        channels=config.nc,
        data_dir=config.data_dir or None,
        workers=config.workers,
    )


def build_gan(config: TrainConfig, device: torch.device, precision: Precision, group: Group | None = None) -> GAN:
    """Networks with their first weights, their optimisers and rules, on the device.

    The generator's weights depend on the seed alone, and discriminator k's on the seed and k, so models that differ
    in the number of discriminators start from the same networks.

    Args:
        config: of the run.
        device: of this process.
        precision: the arithmetic the networks are called in.
        group: the processes that train together; all of them must call it.

    Raises:
        ConfigError: the device has no synchronised BatchNorm.
    """
    group = group or Group()
    if config.sync_batchnorm and device.type != "cuda":
        raise ConfigError(f"sync_batchnorm = True: PyTorch has it for GPUs alone, this is {device}; leave it out")
    recipe = config.recipe
    generator = Generator(config.image_size, config.nz, config.ngf, config.nc, recipe.activation)
    initialize(generator, stream(config.seed, "generator"))
    members = [Discriminator(config.image_size, config.ndf, config.nc) for _ in range(recipe.discriminators)]
    for k, discriminator in enumerate(members):
        initialize(discriminator, stream(config.seed, "discriminator", k))
    if device.type == "cpu":
        for network in (generator, *members):
            use_matmul(network)
    dtype = network_dtype(precision)
    # Channels last: the layout that CPU and GPU convolutions prefer (docs/performance.md); the numbers are the same
    # up to rounding.
    generator.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    discriminators = Discriminators(members).to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.sync_batchnorm and group.world_size > 1:  # the parameters stay the same objects
        nn.SyncBatchNorm.convert_sync_batchnorm(generator, group.processes)
        nn.SyncBatchNorm.convert_sync_batchnorm(discriminators, group.processes)
    gan = GAN(
        generator,
        discriminators,
        _adam(generator, config),
        _adam(discriminators, config),
        PAIRINGS[recipe.pairing],
        SELECTIONS[recipe.selection],
        functools.partial(torch.autocast, device.type, torch.bfloat16, enabled=precision == "bf16"),
        wrap(generator, group),
        wrap(discriminators, group),
        group,
    )
    if group.world_size > 1:
        _lay_out_gradients(gan, config, device, dtype)
    return gan


def _lay_out_gradients(gan: GAN, config: TrainConfig, device: torch.device, dtype: torch.dtype) -> None:
    """Runs one backward pass of each network and drops its gradients.

    After its first backward pass, DistributedDataParallel lays out gradients in the order in which they came. Where
    a gradient lies decides in which order an all-reduce adds up the parts of three and more processes. Without this
    pass, the first step after a resume would differ in its last bits from that of a run that was never stopped.
    """
    latents = torch.zeros(2, config.nz, device=device, dtype=dtype)
    images = torch.zeros(2, config.nc, config.image_size, config.image_size, device=device, dtype=dtype)
    for network, inputs in ((gan.ddp_generator, (latents,)), (gan.ddp_discriminators, (images, images))):
        kept = [buffer.clone() for buffer in network.buffers()]
        with gan.autocast():
            outputs = network(*inputs)
        (outputs if isinstance(outputs, torch.Tensor) else torch.cat(outputs)).sum().backward()
        for buffer, before in zip(network.buffers(), kept, strict=True):
            buffer.copy_(before)
    gan.generator_optimizer.zero_grad()
    gan.discriminator_optimizer.zero_grad()


def _adam(network: nn.Module, config: TrainConfig) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=config.lr, betas=(config.beta1, config.beta2))


def learning_rate(config: TrainConfig, step: int, steps_in_run: int, batches: int = 1) -> float:
    """Learning rate of a step.

    Args:
        config: of the run.
        step: from 0.
        steps_in_run: of all epochs, whatever ``max_steps`` says.
        batches: batches a step, of all processes. With ``lr_scaling`` = linear the rate grows with them (Goyal et
            al., arXiv:1706.02677, section 2.1; they say it of SGD, for Adam it is a habit).
    """
    rate = config.lr * (batches if config.lr_scaling == "linear" else 1)
    return rate * (1.0 - step / steps_in_run) if config.recipe.schedule == "linear" else rate
