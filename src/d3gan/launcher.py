"""``d3gan train --workers-per-node N``: the processes of a run, through PyTorch's own elastic launcher.

It is torchrun called for the user: the same processes, the same variables, the same restarts.
"""

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from d3gan.errors import ConfigError, WorldError
from d3gan.failure import LAUNCHED, end_process
from d3gan.values import check_values

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """The flags that say where the processes of several hosts meet."""

    nnodes: int = 1
    """Number of hosts; start the same command on each."""
    rdzv_endpoint: str = ""
    """HOST:PORT where the hosts find one another: any of them, with a free port. Needed with --nnodes above 1."""
    rdzv_id: str = "d3gan"
    """Name of the job, where several meet at one endpoint."""


@dataclass(frozen=True, kw_only=True)
class Launch(Hosts):
    """The flags that say how many processes a command starts, and where; without them it is one."""

    workers_per_node: int | Literal["auto"] = 0
    """Start this many processes on this host; auto: one for each visible GPU. 0: start none, work in this one."""
    max_restarts: int = 0
    """How often all processes are started again from the last checkpoint, after one has failed."""


# How long a host that can be reached may take to answer at the endpoint; PyTorch tries twice.
CONNECT_SECONDS = 30


def started_by_launcher() -> bool:
    """Whether this process is one of several that ours or another torchrun started."""
    return bool(os.environ.get("TORCHELASTIC_RUN_ID") or os.environ.get("WORLD_SIZE", "1") not in ("", "1"))


def check_hosts(hosts: Hosts) -> None:
    """Checks what goes with what.

    Raises:
        ConfigError: flags that do not.
    """
    if hosts.nnodes < 1:
        raise ConfigError(f"nnodes = {hosts.nnodes}: must be at least 1")
    if hosts.nnodes > 1 and not hosts.rdzv_endpoint:
        raise ConfigError("--nnodes above 1: needs --rdzv-endpoint HOST:PORT, the same on every host")
    host, _, port = hosts.rdzv_endpoint.rpartition(":")
    if hosts.rdzv_endpoint and not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise ConfigError(f"--rdzv-endpoint {hosts.rdzv_endpoint}: must be HOST:PORT, such as node0:29400")


def check_launch(launch: Launch) -> None:
    """Checks ranges, and what goes with what.

    Raises:
        ConfigError: a value out of range, or flags that do not go together.
    """
    check_values(launch, {"workers_per_node": (0, 1024), "max_restarts": (0, 1_000_000)})
    check_hosts(launch)
    given = {"nnodes": launch.nnodes > 1, "rdzv-endpoint": launch.rdzv_endpoint, "max-restarts": launch.max_restarts}
    for flag in [flag for flag, value in given.items() if value and not launch.workers_per_node]:
        raise ConfigError(f"--{flag}: goes with --workers-per-node, which starts the processes; add it")


def workers_on_this_host(launch: Launch, device: str) -> int:
    """How many processes to start here.

    Raises:
        ConfigError: more than GPUs, where they are to compute on GPUs.
    """
    import torch

    gpus = torch.cuda.device_count() if device in ("auto", "cuda") and torch.cuda.is_available() else 0
    if launch.workers_per_node == "auto":
        if not gpus:
            print("no GPU to compute on: one process; --workers-per-node N starts N on the CPU", flush=True)
        return gpus or 1
    workers = int(launch.workers_per_node)
    if gpus and workers > gpus:
        raise ConfigError(
            f"--workers-per-node {workers}: this host has {gpus} GPUs and each process needs its own; give {gpus} or "
            "auto, or --device cpu"
        )
    return workers


def launch_processes(launch: Launch, device: str, command: Sequence[str], timeout: int, debug: bool) -> int:
    """Starts this command's processes on this host and waits for them.

    Args:
        launch: how many, and where they meet.
        device: as the user says it.
        command: the command and its flags, as after ``d3gan``; each process gets all of it.
        timeout: seconds to wait for the other hosts.
        debug: let PyTorch's launcher log what it does.

    Returns:
        The exit code: 0, or 128 + n after signal n.

    Raises:
        ConfigError: a process ended because of a bad value.
        WorldError: a process failed, or the hosts did not find one another.
    """
    if launch.rdzv_endpoint:
        _refuse_unknown_host(launch.rdzv_endpoint)
    with _quiet_sockets(debug):
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.elastic.rendezvous.api import RendezvousError
        from torch.distributed.run import parse_args, run

    workers = workers_on_this_host(launch, device)
    _set_environment(launch, workers)
    if not debug:  # each of its modules has a logger of its own, with a level of its own
        for name in list(logging.root.manager.loggerDict):
            if name.startswith("torch.distributed"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="d3gan-launch-", ignore_cleanup_errors=True) as folder:
        patience = threading.Timer(timeout + CONNECT_SECONDS, _give_up, (launch, Path(folder)))
        patience.daemon = True
        patience.start()
        try:
            run(parse_args([*_launcher_words(launch, workers, folder, timeout), "-m", "d3gan", *command]))
        except ChildFailedError as error:
            raise explained(error) from error
        except SignalException as error:
            return 128 + int(error.sigval)
        except (RendezvousError, RuntimeError, OSError) as error:
            raise _no_rendezvous(launch, error) from error
        finally:
            patience.cancel()
            if sys.stdout.isatty():  # a process that was killed may have left the cursor hidden
                print("\x1b[?25h", end="", flush=True)
    return 0


def _set_environment(launch: Launch, workers: int) -> None:
    os.environ[LAUNCHED] = "1"
    if launch.nnodes > 1:
        os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")  # see d3gan.watch.open_store
    # Or torchrun takes one thread, and says so in a warning, however many cores there are.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))


def _launcher_words(launch: Launch, workers: int, folder: str, timeout: int) -> list[str]:
    words = [f"--nproc-per-node={workers}", f"--max-restarts={launch.max_restarts}", f"--log-dir={folder}"]
    words += [f"--nnodes={launch.nnodes}"]
    if not launch.rdzv_endpoint:
        return [*words, "--standalone", "--local-addr=127.0.0.1"]
    words += ["--rdzv-backend=c10d", f"--rdzv-endpoint={launch.rdzv_endpoint}", f"--rdzv-id={launch.rdzv_id}"]
    return [*words, f"--rdzv-conf=join_timeout={timeout},read_timeout={min(timeout, CONNECT_SECONDS)}"]


def _give_up(launch: Launch, folder: Path) -> None:
    """Ends this process if no worker has been started yet: what listens at the endpoint never answers."""
    if not any(folder.glob("*/attempt_0")):
        shutil.rmtree(folder, ignore_errors=True)
        end_process(_no_rendezvous(launch, TimeoutError("what listens there does not answer")))


def _refuse_unknown_host(endpoint: str) -> None:
    host, _, port = endpoint.rpartition(":")
    try:
        socket.getaddrinfo(host.strip("[]"), int(port))
    except OSError as error:
        raise WorldError(f"--rdzv-endpoint {endpoint}: this host knows no {host} ({error.strerror})") from error


@contextmanager
def _quiet_sockets(debug: bool) -> Iterator[None]:
    """A block to load PyTorch in: its store would write a stack for each second that a connection takes."""
    name = "TORCH_CPP_LOG_LEVEL"
    if debug or name in os.environ:
        yield
        return
    os.environ[name] = "FATAL"
    yield
    del os.environ[name]  # not for the processes that train


def _no_rendezvous(launch: Launch, error: BaseException) -> WorldError:
    reason = " ".join(str(error.__cause__ or error).split())[:300] or type(error).__name__
    where = launch.rdzv_endpoint or "this host"
    return WorldError(
        f"{where}: the processes did not find one another there ({type(error).__name__}: {reason}); is the host "
        "right, its port free and open, and was the same command started on all hosts?"
    )


def explained(failed: "ChildFailedError") -> ConfigError | WorldError:
    """The one error that says why the processes ended.

    A cause that a process has told comes first, then processes that could tell nothing (but not those that the
    launcher itself ended), then what the others noticed of it; of equal ones the earliest.
    """

    def told_by(failure: Any) -> dict[str, Any]:
        told = failure.error_file_data.get("message", {})
        return told.get("d3gan", {}) if isinstance(told, dict) else {}

    def order(rank_and_failure: tuple[int, Any]) -> tuple[int, int, int]:
        rank, failure = rank_and_failure
        told = told_by(failure)
        if told:
            return 2 if told["consequence"] else 0, failure.timestamp, rank
        return 3 if failure.exitcode == -signal.SIGTERM else 1, failure.timestamp, rank

    rank, failure = min(failed.failures.items(), key=order)
    if told := told_by(failure):
        text = str(failure.error_file_data["message"]["message"]).removeprefix("error: ")
        return ConfigError(text) if told["code"] == 2 else WorldError(text)
    how = f"was ended by {failure.signal_name()}" if failure.exitcode < 0 else f"ended with code {failure.exitcode}"
    memory = "; the system may have been short of memory" if failure.exitcode == -9 else ""
    return WorldError(
        f"process {rank} (pid {failure.pid}) {how}{memory}; the same command goes on from the last checkpoint, and "
        "--max-restarts N does so by itself"
    )
