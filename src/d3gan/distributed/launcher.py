"""``d3gan train --workers-per-node N``: starts the processes of a run with PyTorch's own elastic launcher.

It calls torchrun for the user: the same processes, the same variables, the same restarts.
"""

import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from d3gan.config.validation import check_values, key
from d3gan.distributed.exit import LAUNCHED, end_process
from d3gan.distributed.rendezvous import (
    CONNECT_SECONDS,
    Hosts,
    check_hosts,
    interface_of,
    is_here,
    no_rendezvous,
    own_address,
    refuse_unknown_host,
)
from d3gan.errors import ConfigError, ExternalError

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


logger = logging.getLogger("d3gan")


@dataclass(frozen=True, kw_only=True)
class Launch(Hosts):
    """The flags that say how many processes a command starts, and where; the default is one."""

    workers_per_node: int | Literal["auto"] = key(0, allowed=(0, 1024))
    """Processes to start on this host; auto: one for each visible GPU. 0: start none, train in this process."""
    max_restarts: int = key(0, allowed=(0, 1_000_000))
    """How often to restart all processes from the last checkpoint after one has failed."""


# Seconds PyTorch's launcher may take to end the remaining workers after one has failed; it gives them 30 s.
END_SECONDS = 40


def started_by_launcher() -> bool:
    """Whether this process is one of several that ours or another torchrun started."""
    return bool(os.environ.get("TORCHELASTIC_RUN_ID") or os.environ.get("WORLD_SIZE", "1") not in ("", "1"))


def check_launch(launch: Launch) -> None:
    """Checks ranges, and which flags need each other.

    Raises:
        ConfigError: a value out of range, or flags that do not go together.
    """
    check_values(launch)
    check_hosts(launch)
    given = {"nnodes": launch.nnodes > 1, "rdzv-endpoint": launch.rdzv_endpoint, "max-restarts": launch.max_restarts}
    for flag in [flag for flag, value in given.items() if value and not launch.workers_per_node]:
        raise ConfigError(f"--{flag}: goes with --workers-per-node, which starts the processes; add it")


def workers_on_this_host(launch: Launch, device: str) -> int:
    """How many processes to start here.

    Raises:
        ConfigError: more processes than GPUs, if they compute on GPUs.
    """
    import torch

    gpus = torch.cuda.device_count() if device in ("auto", "cuda") and torch.cuda.is_available() else 0
    if launch.workers_per_node == "auto":
        if not gpus:
            logger.info("no GPU found: starting one CPU process (--workers-per-node N starts more)")
        return gpus or 1
    workers = int(launch.workers_per_node)
    if gpus and workers > gpus:
        raise ConfigError(
            f"{workers} processes on this host, which has {gpus} GPUs: each process needs its own; start at most "
            f"{gpus}, or give --device cpu"
        )
    return workers


def launch_processes(
    launch: Launch, device: str, command: Sequence[str], timeout: int, debug: bool, again: str
) -> int:
    """Starts this command's processes on this host and waits for them.

    Args:
        launch: how many, and where they meet.
        device: as the user gave it.
        command: the command and its flags, as after ``d3gan``; each process gets all of it.
        timeout: seconds to wait for the other hosts.
        debug: let PyTorch's launcher log what it does.
        again: for the error: what to do after a process was killed.

    Returns:
        The exit code: 0, or 128 + n after signal n.

    Raises:
        ConfigError: a process ended because of a bad value.
        ExternalError: a process failed, or the hosts did not find one another.
    """
    if launch.rdzv_endpoint:
        refuse_unknown_host(launch.rdzv_endpoint)
    with _quiet_sockets(debug):
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.elastic.rendezvous.api import RendezvousError
        from torch.distributed.run import parse_args, run

    workers = workers_on_this_host(launch, device)
    _set_environment(launch, workers, debug)
    if not debug:  # each of its modules has a logger of its own, with a level of its own
        for name in list(logging.root.manager.loggerDict):
            if name.startswith("torch.distributed"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="d3gan-launch-", ignore_cleanup_errors=True) as folder:
        over = threading.Event()
        watching = (launch, Path(folder), timeout, over)
        threading.Thread(target=_end_if_stuck, args=watching, name="d3gan launcher", daemon=True).start()
        try:
            run(parse_args([*_launcher_words(launch, workers, folder, timeout), "-m", "d3gan", *command]))
        except ChildFailedError as error:
            raise explained(error, again) from error
        except SignalException as error:
            with suppress(SignalException):
                _wait_for_workers()
            if report := _report_of_workers(Path(folder)):  # a worker sent the signal, to prevent a restart
                raise _error_of(report) from error
            return 128 + int(error.sigval)
        except (RendezvousError, RuntimeError, OSError) as error:
            raise no_rendezvous(launch, error) from error
        finally:
            over.set()
            if sys.stdout.isatty():  # a process that was killed may have left the cursor hidden
                print("\x1b[?25h", end="", flush=True)
    return 0


def _set_environment(launch: Launch, workers: int, debug: bool) -> None:
    os.environ[LAUNCHED] = "1"
    if not debug:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # of the workers, which report what matters themselves
    if launch.nnodes > 1:
        os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")  # see d3gan.distributed.store.open_store
        interface = interface_of(own_address(launch.rdzv_endpoint))
        if interface:  # else gloo takes the interface of the host's name, which may be the loopback
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    # Else torchrun sets one thread, with a warning, however many cores there are.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))


def _launcher_words(launch: Launch, workers: int, folder: str, timeout: int) -> list[str]:
    words = [f"--nproc-per-node={workers}", f"--max-restarts={launch.max_restarts}", f"--log-dir={folder}"]
    words += [f"--nnodes={launch.nnodes}"]
    if not launch.rdzv_endpoint:
        return [*words, "--standalone", "--local-addr=127.0.0.1"]
    words += ["--rdzv-backend=c10d", f"--rdzv-endpoint={launch.rdzv_endpoint}", f"--rdzv-id={launch.rdzv_id}"]
    words += [f"--local-addr={address}"] if (address := own_address(launch.rdzv_endpoint)) else []
    # PyTorch compares names to find out whether the endpoint is on this host, and misses addresses without a name.
    is_host = f"is_host={int(is_here(launch.rdzv_endpoint))}"
    return [*words, f"--rdzv-conf={is_host},join_timeout={timeout},read_timeout={min(timeout, CONNECT_SECONDS)}"]


@contextmanager
def _quiet_sockets(debug: bool) -> Iterator[None]:
    """Loads PyTorch quietly: its store would print a stack for each second that a connection takes."""
    name = "TORCH_CPP_LOG_LEVEL"
    if debug or name in os.environ:
        yield
        return
    os.environ[name] = "FATAL"
    try:
        yield
    finally:
        del os.environ[name]  # not for the processes that train


def _wait_for_workers() -> None:
    """Waits until they have ended; PyTorch's launcher stops waiting when it gets a second signal."""
    import psutil

    _, left = psutil.wait_procs(psutil.Process().children(), timeout=END_SECONDS)
    for process in left:
        process.kill()


def _end_if_stuck(launch: Launch, folder: Path, timeout: int, over: threading.Event) -> None:
    """Ends this process if PyTorch's launcher would wait for ever.

    It does so for a store that can no longer be reached, and for a program at the endpoint that is no store.
    """
    begin = failed = time.monotonic()
    while not over.wait(1.0):
        now = time.monotonic()
        if not any(folder.glob("*/attempt_*")):
            if now - begin > timeout + CONNECT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
                end_process(no_rendezvous(launch, TimeoutError("the program at that address does not answer")))
            continue
        report = _report_of_workers(folder)
        failed = failed if report else now
        # The launcher may still be ending the other workers, or restarting them with those of the other hosts.
        if now - failed > END_SECONDS + (timeout if launch.max_restarts else 0):
            shutil.rmtree(folder, ignore_errors=True)
            end_process(_error_of(report))


def _report_of_workers(folder: Path) -> dict[str, Any]:
    """What a worker of the last attempt reported: the cause rather than a consequence of it; {} if none did."""
    attempts = list(folder.glob("*/attempt_*"))
    newest = max(attempts, key=lambda path: int(path.name.removeprefix("attempt_")), default=folder / "none")
    reports = [_read_report(file) for file in newest.glob("*/error.json")]
    return min(reports, key=lambda each: bool(each.get("consequence", True)), default={})


def _read_report(file: Path) -> dict[str, Any]:
    """What ``d3gan.distributed.exit`` wrote into a worker's error file."""
    try:
        message = json.loads(file.read_text(encoding="utf-8"))["message"]
        return {"text": message["message"], **message["d3gan"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _error_of(report: dict[str, Any]) -> ConfigError | ExternalError:
    text = str(report.get("text", "error: a process failed")).removeprefix("error: ")
    return ConfigError(text) if report.get("code") == 2 else ExternalError(text)


def explained(failed: "ChildFailedError", again: str) -> ConfigError | ExternalError:
    """The one error that says why the processes ended, and what to do if they were killed.

    A cause that a process reported comes first, then processes that could report nothing (but not those that the
    launcher itself ended), then what the others noticed of it; of equal ones the earliest.
    """

    def order(rank_and_failure: tuple[int, Any]) -> tuple[int, int, int]:
        rank, failure = rank_and_failure
        if report := _read_report(Path(failure.error_file)):
            return 2 if report["consequence"] else 0, failure.timestamp, rank
        return 3 if failure.exitcode == -signal.SIGTERM else 1, failure.timestamp, rank

    rank, failure = min(failed.failures.items(), key=order)
    if report := _read_report(Path(failure.error_file)):
        return _error_of(report)
    how = f"was ended by {failure.signal_name()}" if failure.exitcode < 0 else f"ended with code {failure.exitcode}"
    memory = "; the system may have run out of memory" if failure.exitcode == -9 else ""
    return ExternalError(f"rank {rank} (pid {failure.pid}) {how}{memory}; {again}")
