"""How processes that train together start, get their devices, and notice that one is lost.

The engine is torch.distributed, the processes are torchrun's: NCCL between GPUs, gloo between CPUs.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed

from d3gan.devices import resolve_device
from d3gan.distributed.exit import end_process, leave_at_once
from d3gan.distributed.group import Group, hostname
from d3gan.distributed.store import open_store
from d3gan.distributed.watchdog import STORE_SECONDS, Watch
from d3gan.errors import ConfigError, ExternalError, PeerLostError, first_line


def number_of_environment(name: str, default: int, least: int) -> int:
    """A number that torchrun tells its processes, such as WORLD_SIZE.

    Raises:
        ConfigError: the variable holds no whole number of at least ``least``.
    """
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(f"{name} = {text!r} in the environment: must be a whole number, at least {least}")
    return int(text)


def own_device(name: str) -> torch.device:
    """The device of this process: of several on one host, each takes a GPU of its own.

    Args:
        name: what the user asked for: auto, cpu, cuda, cuda:N or mps.

    Raises:
        ConfigError: no such device, or fewer GPUs than processes on this host.
    """
    if number_of_environment("WORLD_SIZE", 1, least=1) == 1:
        return resolve_device(name)
    here = number_of_environment("LOCAL_WORLD_SIZE", 1, least=1)
    if name == "mps" or (name == "auto" and not torch.cuda.is_available()):
        if name == "mps":
            raise ConfigError("device = 'mps': serves a single process; use cpu for several")
        return torch.device("cpu")
    if name.startswith("cuda:") and here > 1:
        raise ConfigError(f"device = {name!r}: is one GPU for {here} processes; use cuda, and each takes its own")
    if name not in ("auto", "cuda"):
        return resolve_device(name)
    if here > torch.cuda.device_count():
        raise ConfigError(
            f"{here} processes on this host, {torch.cuda.device_count()} GPUs: start at most one for each GPU "
            "(--workers-per-node auto), or give --device cpu"
        )
    if not os.environ.get("LOCAL_RANK"):
        raise ConfigError(
            "LOCAL_RANK is not set, which says which GPU is this process's; start it with torchrun or "
            "--workers-per-node, or give --device cuda:N to a single process of a host"
        )
    return resolve_device(f"cuda:{number_of_environment('LOCAL_RANK', 0, least=0)}")


# The backend's own timeout is this much longer than ours. Our message says more, and our clock starts with the first
# step: before that, one host may fetch data for hours while another waits for it.
GRACE = 6 * 3600
# Seconds that joining may take on top of the timeout of each of its requests.
PATIENCE = 10

_joined = 0  # how often this process has joined a group: a second run must find nothing of the first in the store


@contextmanager
def start(device_name: str, timeout: float = 600) -> Iterator[tuple[Group, torch.device]]:
    """Joins this process to the others that torchrun started, for the length of the block.

    Args:
        device_name: what the user asked for: auto, cpu, cuda, cuda:N or mps.
        timeout: seconds after which a process that waits for another gives up.

    Yields:
        The group, and this process's device.

    Raises:
        ConfigError: torchrun's variables are incomplete or do not go together, or a process has no device of its own.
        ExternalError: the other processes cannot be reached.
    """
    world_size = number_of_environment("WORLD_SIZE", 1, least=1)
    if world_size == 1:
        yield Group(), own_device(device_name)
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE = {world_size}, but {', '.join(missing)} is not set; start it with torchrun or "
            "--workers-per-node, or unset WORLD_SIZE"
        )
    rank = number_of_environment("RANK", 0, least=0)
    watch = _join(rank, world_size, device_name, timeout)
    try:
        group = Group(rank, world_size, watch=watch)
        with group.raise_on_all_ranks():
            device = own_device(device_name)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with watch:
            yield group, device
    finally:
        # After a failure not: NCCL would first wait for the others, who wait for us. The end of the process does it.
        if sys.exception() is None or torch.distributed.get_backend() == "gloo":
            torch.distributed.destroy_process_group()


def _join(rank: int, world_size: int, device_name: str, timeout: float) -> Watch:
    """Joins the process group; returns the watchdog."""
    global _joined
    _joined += 1
    leave_at_once()
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    # Another program may listen there; PyTorch would wait for its answer without end.
    mute = ExternalError(f"{where}: the server there is not this job's rank 0; is another program using the port?")
    patience = threading.Timer(timeout + PATIENCE, end_process, [mute])
    patience.daemon = True
    patience.start()
    # gloo as well as NCCL: messages before each process has its GPU, and small ones later, go through the CPU.
    on_gpus = device_name.startswith(("auto", "cuda")) and torch.cuda.is_available()
    try:
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpus else "gloo",
            timeout=timedelta(seconds=timeout + GRACE),
            store=open_store(f"group {_joined}", timeout, serve=rank == 0),
            rank=rank,
            world_size=world_size,
        )
        return Watch(open_store(f"watch {_joined}", STORE_SECONDS), rank, world_size, timeout, end_process)
    except (torch.distributed.DistError, RuntimeError, ValueError) as error:
        raise ExternalError(f"{where}: cannot join the other processes there ({first_line(error)})") from error
    finally:
        patience.cancel()


@contextmanager
def naming_lost_contact(group: Group) -> Iterator[None]:
    """Turns what the backends raise when another process is gone into one line.

    Raises:
        PeerLostError: another process ended or cannot be reached.
    """
    try:
        yield
    except RuntimeError as error:
        if group.world_size == 1 or isinstance(error, ExternalError) or not _is_lost_contact(error):
            raise
        raise PeerLostError(
            f"{group.where()}: rank {group.rank} on {hostname()} lost contact with another process "
            f"({first_line(error)})"
        ) from error


def _is_lost_contact(error: RuntimeError) -> bool:
    """Whether a backend says that it cannot reach another process, and not that it was used wrongly."""
    if isinstance(error, torch.distributed.DistNetworkError):
        return True
    backends = isinstance(error, torch.distributed.DistError) or any(
        word in str(error) for word in ("gloo/", "gloo::", "NCCL", "ProcessGroup")
    )
    words = ("connect", "remote process", "timed out", "timeout", "abort", "closed", "reset by peer", "broken pipe")
    return backends and any(word in str(error).lower() for word in words)
