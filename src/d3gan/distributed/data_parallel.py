"""Networks whose gradients are means over the processes."""

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from d3gan.distributed.group import Group


def wrap(network: nn.Module, group: Group) -> nn.Module:
    """The network as a training step calls it: its gradients become means over the processes.

    One wrapper per network, one forward per step. Buffers are left alone (a broadcast between two forwards breaks the
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
