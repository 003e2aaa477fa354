"""Notices, while training runs, a process that hangs, a host that is gone and a launcher that has died.

A process that waits for another in a collective cannot say so: it is inside the backend, on a GPU for a long time
without an error. So a thread of each process tells the others, through torchrun's store, that the process lives and
how far it is. After too long without progress the thread ends its process with a line that names the cause.
"""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch.distributed import Store  # type: ignore[attr-defined]

from d3gan.errors import ExternalError

SECONDS_BETWEEN_BEATS = 1.0
# How long the store may take to answer; it is one small request.
STORE_SECONDS = 10.0


@dataclass(frozen=True)
class Beat:
    """What a process last said of itself."""

    count: int
    """How often it has said something: a process that is stopped says nothing any more."""
    progress: int
    """How many locations it has passed; all processes pass the same ones in the same order."""
    location: str
    """The last of them."""
    host: str
    pid: int
    launcher: int
    """Process id of its parent: processes with the same parent are on the same host."""


def silent_ranks(before: dict[int, Beat], after: dict[int, Beat], world_size: int) -> list[int]:
    """The ranks that wrote nothing between two readings."""
    return [rank for rank in range(world_size) if rank not in after or after[rank] == before.get(rank)]


def culprits(before: dict[int, Beat], after: dict[int, Beat], world_size: int) -> str:
    """Names the ranks that hold up the others.

    Args:
        before: each rank's beat; ranks that never wrote one are missing.
        after: the same, some beats later.
        world_size: number of processes.

    Returns:
        The ranks that have gone silent, else those furthest behind, each with its location; "" if all processes live
        and are at one location.
    """
    if silent := silent_ranks(before, after, world_size):
        return "; ".join(_named(rank, after.get(rank), "has gone silent") for rank in silent)
    least = min(beat.progress for beat in after.values())
    behind = [rank for rank, beat in sorted(after.items()) if beat.progress == least]
    if len(behind) == world_size:
        return ""
    return "; ".join(_named(rank, after[rank], "is stuck") for rank in behind)


def _named(rank: int, beat: Beat | None, what: str) -> str:
    if beat is None:
        return f"rank {rank} was never heard from"
    return f"rank {rank} (pid {beat.pid} on {beat.host}) {what}; last seen at {beat.location}"


class Watch:
    """A thread that lives as long as the ``with`` block.

    Args:
        store: where the processes leave their beats.
        rank: this process.
        world_size: number of processes.
        timeout: seconds without progress after which the process is ended.
        end: ends the process with an error; does not return.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        world_size: int,
        timeout: float,
        end: Callable[[ExternalError], Any],
    ):
        self._store, self._rank, self._world_size = store, rank, world_size
        self._timeout, self._end = timeout, end
        self._seconds = min(SECONDS_BETWEEN_BEATS, timeout / 4)
        self._count, self._progress, self._location = 0, 0, "the start"
        self._since: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="d3gan watch", daemon=True)
        self._parent = os.getppid()
        self.on_orphan: Callable[[], None] = self._end_orphan
        """Called once if torchrun is gone: then nothing else would end this process or restart it."""

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(STORE_SECONDS)  # or it might ask a store that is being taken down

    def heartbeat(self, location: str) -> None:
        """Notes progress. All processes call it in the same order; the first call starts the clock."""
        self._progress, self._location, self._since = self._progress + 1, location, time.monotonic()

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            if os.getppid() != self._parent:
                self._parent = os.getppid()
                if "TORCHELASTIC_RUN_ID" in os.environ:  # a shell that started processes by hand may well end early
                    self.on_orphan()
            self._beat()
            since = self._since
            if since is not None and time.monotonic() - since > self._timeout:
                message = self._explanation()
                if self._since == since and not self._over.is_set():  # it may have gone on meanwhile, or ended well
                    self._end(ExternalError(message))

    def _end_orphan(self) -> None:
        self._end(ExternalError(f"{self._location}: the launcher of rank {self._rank} is gone; start again"))

    def _beat(self) -> None:
        self._count += 1
        beat = [self._count, self._progress, self._location, socket.gethostname(), os.getpid(), self._parent]
        try:
            self._store.set(f"beat/{self._rank}", json.dumps(beat))
        except Exception:  # the store ends with the launcher; what that means shows elsewhere
            return

    def _explanation(self) -> str:
        """Why there is no progress, in one line. A thread asks the store, because a broken link would block it."""
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(self._ask()), daemon=True)
        asking.start()
        asking.join(STORE_SECONDS + 4 * self._seconds)
        stuck = f"{self._location}: rank {self._rank} has made no progress for {self._timeout:.0f} s"
        if not answers or answers[0] == "?":
            address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            return (
                f"{stuck}, and {address}, where rank 0 serves the store, does not answer: the link to it is cut, or "
                "the program there hangs or is gone"
            )
        return f"{stuck}: {answers[0] or 'all processes live and wait for one another at one location'}"

    def _ask(self) -> str:
        try:
            before = self._beats()
            time.sleep(3 * self._seconds)
            after = self._beats()
        except Exception:  # whatever the store raises, it cannot be asked
            return "?"
        self._end_stopped([after[r] for r in silent_ranks(before, after, self._world_size) if r in after])
        return culprits(before, after, self._world_size)

    def _end_stopped(self, beats: list[Beat]) -> None:
        """Kills stopped processes of this host; the launcher would wait half a minute for each first."""
        for beat in beats:
            if (beat.host, beat.launcher) == (socket.gethostname(), self._parent) and beat.pid != os.getpid():
                with suppress(OSError):
                    os.kill(beat.pid, signal.SIGKILL)

    def _beats(self) -> dict[int, Beat]:
        self._beat()
        keys = {rank: f"beat/{rank}" for rank in range(self._world_size)}
        known = [rank for rank, key in keys.items() if self._store.check([key])]
        return {rank: Beat(*json.loads(self._store.get(keys[rank]))) for rank in known}
