"""The device a process computes on, and its precision."""

import platform
from contextlib import suppress
from pathlib import Path
from typing import Literal

import torch

from d3gan.errors import ConfigError

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
    """The precision a name stands for; ``auto`` takes bf16 if the hardware computes in it, else float32.

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


def device_name(device: torch.device) -> str:
    """The product name, as far as the system knows it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # Private, but PyTorch has no public name for it; without it we fall back to float32.
        return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return False


def network_dtype(precision: Precision) -> torch.dtype:
    """Type of parameters and images; under bf16 autocast they stay float32."""
    return torch.float64 if precision == "float64" else torch.float32
