"""Notices, beside the training, a process that hangs, a host that is gone and a launcher that has died.

A process that waits for another in a collective cannot say so: it is inside the backend, on a GPU even without an
error for a long while. So in each process a thread tells the others through torchrun's store that it lives and how
far it is, and ends the process when it has not got any further for too long, with a line that names who held it up.
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
    places: int
    """How many places it has come by; all processes come by the same ones in the same order."""
    place: str
    """The last of them."""
    host: str
    pid: int
    launcher: int
    """Process id of what started it: those with the same one are on the same host."""


def silent_ranks(before: dict[int, Beat], after: dict[int, Beat], world_size: int) -> list[int]:
    """Who has said nothing between two looks."""
    return [rank for rank in range(world_size) if rank not in after or after[rank] == before.get(rank)]


def culprits(before: dict[int, Beat], after: dict[int, Beat], world_size: int) -> str:
    """Who holds up the others.

    Args:
        before: each rank's beat; ranks that never said anything are missing.
        after: likewise, some beats later.
        world_size: number of processes.

    Returns:
        Those that have gone silent, else those that are furthest behind, each with its place; "" where all processes
        live and are at one place.
    """
    if silent := silent_ranks(before, after, world_size):
        return "; ".join(_named(rank, after.get(rank), "has gone silent") for rank in silent)
    least = min(beat.places for beat in after.values())
    behind = [rank for rank, beat in sorted(after.items()) if beat.places == least]
    if len(behind) == world_size:
        return ""
    return "; ".join(_named(rank, after[rank], "does not go on") for rank in behind)


def _named(rank: int, beat: Beat | None, what: str) -> str:
    if beat is None:
        return f"process {rank} has never been heard of"
    return f"process {rank} (pid {beat.pid} on {beat.host}) {what}, last heard of at {beat.place}"


class Watch:
    """A thread that lives as long as the ``with`` block.

    Args:
        store: where the processes leave their beats.
        rank: this process.
        world_size: number of processes.
        timeout: seconds without a new place after which the process is ended.
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
        self._count, self._places, self._place = 0, 0, "the start"
        self._since: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="d3gan watch", daemon=True)
        self._parent = os.getppid()
        self.on_orphan: Callable[[], None] = self._end_orphan
        """Called once if torchrun is gone: nobody would end this process, nor start it again."""

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(STORE_SECONDS)  # or it might ask a store that is being taken down

    def heartbeat(self, place: str) -> None:
        """This process goes on; called in the same order in all of them. The first call starts the clock."""
        self._places, self._place, self._since = self._places + 1, place, time.monotonic()

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
        self._end(ExternalError(f"{self._place}: the launcher of process {self._rank} is gone; start again"))

    def _beat(self) -> None:
        self._count += 1
        beat = [self._count, self._places, self._place, socket.gethostname(), os.getpid(), self._parent]
        try:
            self._store.set(f"beat/{self._rank}", json.dumps(beat))
        except Exception:  # the store ends with the launcher; what that means shows elsewhere
            return

    def _explanation(self) -> str:
        """Why nothing goes on, in one line; asks the store from a thread, which a broken link would hold up."""
        found: list[str] = []
        asking = threading.Thread(target=lambda: found.append(self._ask()), daemon=True)
        asking.start()
        asking.join(STORE_SECONDS + 4 * self._seconds)
        own = f"{self._place}: nothing has gone on in process {self._rank} for {self._timeout:.0f} s"
        if not found or found[0] == "?":
            address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            return (
                f"{own}, and {address} (process 0 keeps the processes' store there) does not answer: the link to it "
                "is cut, or what runs there hangs or is gone"
            )
        return f"{own}: {found[0] or 'all processes live and wait for one another at one place'}"

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
        """Ends processes of this host that are stopped; the launcher would, half a minute after it has asked them."""
        for beat in beats:
            if (beat.host, beat.launcher) == (socket.gethostname(), self._parent) and beat.pid != os.getpid():
                with suppress(OSError):
                    os.kill(beat.pid, signal.SIGKILL)

    def _beats(self) -> dict[int, Beat]:
        self._beat()
        keys = {rank: f"beat/{rank}" for rank in range(self._world_size)}
        known = [rank for rank, key in keys.items() if self._store.check([key])]
        return {rank: Beat(*json.loads(self._store.get(keys[rank]))) for rank in known}
