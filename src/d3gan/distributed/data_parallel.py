"""Networks whose gradients are means over the processes."""

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from d3gan.config.train_config import TrainConfig
from d3gan.distributed.group import Group
from d3gan.training.step import GAN


def _lay_out_gradients(gan: GAN, config: TrainConfig, device: torch.device, dtype: torch.dtype) -> None:
    """One backward pass of each network, for nothing.

    After its first, DistributedDataParallel lays out the gradients in the order in which they came. Where a gradient
    lies decides in which order an all-reduce adds up the parts of three and more processes: without this, the first
    step after a resume would not be the one of a run that was never stopped.
    """
    latents = torch.zeros(2, config.nz, device=device, dtype=dtype)
    images = torch.zeros(2, config.nc, config.image_size, config.image_size, device=device, dtype=dtype)
    for network, inputs in ((gan.generate, (latents,)), (gan.discriminate, (images, images))):
        kept = [buffer.clone() for buffer in network.buffers()]
        with gan.autocast():
            outputs = network(*inputs)
        (outputs if isinstance(outputs, torch.Tensor) else torch.cat(outputs)).sum().backward()
        for buffer, before in zip(network.buffers(), kept, strict=True):
            buffer.copy_(before)
    gan.generator_optimizer.zero_grad()
    gan.discriminator_optimizer.zero_grad()


def wrap(network: nn.Module, group: Group) -> nn.Module:
    """The network as a training step calls it: its gradients become means over the processes.

    One wrapper a network, one forward a step. Buffers are left alone (a broadcast between two forwards breaks the
    backward pass of BatchNorm on GPUs, pytorch#22095); ``train_step`` averages them.

    Args:
        network: on its device; all processes must have the same.
        group: the processes; a single one gets the network itself.
    """
    if group.world_size == 1:
        return network
    known = inspect.signature(DistributedDataParallel).parameters
    # Newer releases call it otherwise, and complain of the old name.
    buffers: dict[str, Any] = {
        "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False
    }
    return DistributedDataParallel(network, process_group=group.processes, gradient_as_bucket_view=True, **buffers)


def without_sync(network: nn.Module) -> AbstractContextManager[None]:
    """A block in which a wrapped network's gradients stay this process's own and add up."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()
