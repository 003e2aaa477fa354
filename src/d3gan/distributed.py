"""Processes that work together: start, gather, stop. Everything else asks a ``Group`` for rank and world size.

The engine is torch.distributed, the processes are torchrun's: NCCL between GPUs, gloo between CPUs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor

from d3gan.errors import ConfigError


@dataclass(frozen=True)
class Group:
    """The processes of a run as one of them sees them. A single process is a group of one."""

    rank: int = 0
    """This process's number among all of them, from 0."""
    world_size: int = 1
    """Number of processes."""

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks: rank 0 does."""
        return self.rank == 0

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Brings every process's tensor to rank 0; all processes must call it, with one shape and type.

        Returns:
            The tensors in order of rank, on rank 0; an empty list elsewhere.
        """
        if self.world_size == 1:
            return [tensor]
        gathered = [torch.empty_like(tensor) for _ in range(self.world_size)] if self.leads else None
        torch.distributed.gather(tensor.contiguous(), gathered)
        return gathered or []

    def agree(self, number: int) -> int:
        """Rank 0's number, to every process; all of them must call it."""
        if self.world_size == 1:
            return number
        told = [number]
        torch.distributed.broadcast_object_list(told)
        return told[0]


def world_size_of_environment() -> int:
    """The number of processes that torchrun started; 1 without it.

    Raises:
        ConfigError: WORLD_SIZE is no whole number above 0.
    """
    return _number("WORLD_SIZE", 1, least=1)


def local_device(name: str) -> str:
    """The device of this process: under torchrun each process of a host takes its own GPU.

    Args:
        name: what the user asked for: auto, cpu, cuda, cuda:N or mps.
    """
    if world_size_of_environment() > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{_number('LOCAL_RANK', 0, least=0)}"
    return name


@contextmanager
def start(device: torch.device) -> Iterator[Group]:
    """Joins this process to the others that torchrun started, for the length of the block.

    Args:
        device: what this process computes on; decides the backend.

    Raises:
        ConfigError: torchrun's variables are incomplete.
    """
    world_size = world_size_of_environment()
    if world_size == 1:
        yield Group()
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise ConfigError(f"WORLD_SIZE = {world_size}, but {', '.join(missing)} is not set; start it with torchrun")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(_number("RANK", 0, least=0), world_size)
    finally:
        torch.distributed.destroy_process_group()


def _number(name: str, default: int, least: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(f"{name} = {text!r} in the environment: must be a whole number, at least {least}")
    return int(text)
