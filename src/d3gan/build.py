"""From a config to what it stands for: device, precision, networks, optimisers."""

import functools
from typing import Literal

import torch
from torch import nn

from d3gan.config import TrainConfig
from d3gan.errors import ConfigError
from d3gan.models.dcgan import Discriminator, Discriminators, Generator, initialise
from d3gan.objectives import PAIRINGS, SELECTIONS
from d3gan.randomness import stream
from d3gan.train_step import GAN

Precision = Literal["bf16", "float32", "float64"]


def resolve_device(name: str) -> torch.device:
    """The device a name stands for; ``auto`` takes cuda, else mps, else cpu.

    Raises:
        ConfigError: no such device, or not on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps") or (device.type != "cuda" and device.index is not None):
        raise ConfigError(f"device = {name!r}: must be auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device = {name!r}: this machine shows PyTorch {torch.cuda.device_count()} CUDA devices; use cpu"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"device = {name!r}: not available on this machine; use cpu")
    return device


def resolve_precision(name: str, device: torch.device) -> Precision:
    """The arithmetic a name stands for; ``auto`` takes bf16 where the hardware computes in it, else float32.

    Raises:
        ConfigError: the device cannot compute in the precision asked for.
    """
    if name == "auto":
        return "bf16" if _has_bf16(device) else "float32"
    if name == "float64" and device.type == "mps":
        raise ConfigError("precision = 'float64': mps has no float64; use float32, or --device cpu")
    if name not in ("bf16", "float32", "float64"):
        raise ConfigError(f"precision = {name!r}: must be auto, bf16, float32 or float64")
    return name  # type: ignore[return-value]  # narrowed by the test above


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # Underscored, but PyTorch has no public name for it; where it is gone we fall back to float32.
        return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return False


def network_dtype(precision: Precision) -> torch.dtype:
    """Type of parameters and images; under bf16 autocast they stay float32."""
    return torch.float64 if precision == "float64" else torch.float32


def build_gan(config: TrainConfig, device: torch.device, precision: Precision) -> GAN:
    """Networks with their first weights, their optimisers and rules, on the device.

    The generator's weights depend on the seed alone, and discriminator k's on the seed and k, so models that differ
    in the number of discriminators start from the same networks.
    """
    recipe = config.recipe
    generator = Generator(config.image_size, config.nz, config.ngf, config.nc, recipe.activation)
    initialise(generator, stream(config.seed, "generator"))
    members = [Discriminator(config.image_size, config.ndf, config.nc) for _ in range(recipe.discriminators)]
    for k, discriminator in enumerate(members):
        initialise(discriminator, stream(config.seed, "discriminator", k))
    dtype = network_dtype(precision)
    # Channels last: the layout that CPU and GPU convolutions prefer (docs/performance.md); the numbers are the same
    # up to rounding.
    generator.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    discriminators = Discriminators(members).to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return GAN(
        generator,
        discriminators,
        _adam(generator, config),
        _adam(discriminators, config),
        PAIRINGS[recipe.pairing],
        SELECTIONS[recipe.selection],
        functools.partial(torch.autocast, device.type, torch.bfloat16, enabled=precision == "bf16"),
    )


def _adam(network: nn.Module, config: TrainConfig) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=config.lr, betas=(config.beta1, config.beta2))


def learning_rate(config: TrainConfig, step: int, steps_in_run: int) -> float:
    """Learning rate of step ``step`` (from 0) of a run of ``steps_in_run``, whatever ``max_steps`` says."""
    if config.recipe.schedule == "linear":
        return config.lr * (1.0 - step / steps_in_run)
    return config.lr
