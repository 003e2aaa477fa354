"""Ctrl-C, SIGTERM and a closed terminal as a request that training answers between two steps."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from d3gan.distributed.group import Group
from d3gan.distributed.launcher import started_by_launcher
from d3gan.interrupt import PARENT, stop_signals

logger = logging.getLogger("d3gan")

_PARENT_POLL_SECONDS = 1.0


class StopRequest:
    """Which signal asked the run to stop, if one did.

    Args:
        group: the processes that are to stop together; they hear of it when they next exchange something.
    """

    def __init__(self, group: Group) -> None:
        self._group, self._launcher = group, os.getppid()
        self.signal: signal.Signals | None = None

    def tell_launcher(self, number: signal.Signals) -> None:
        """Stops the launcher too, or it would take the end of its processes for a failure and restart them.

        All processes call it, and none ends before all have.
        """
        self.make(number)
        here = os.environ.get("TORCHELASTIC_RUN_ID") and os.environ.get("LOCAL_RANK") == "0"
        if here and os.getppid() == self._launcher:
            os.kill(self._launcher, number)
        self._group.all_gather(None)

    def make(self, number: signal.Signals) -> None:
        """Records the request; exchanges nothing with other processes, so that a signal handler may call it."""
        self.signal, self._group.wants_stop = number, True

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def stop_requests(group: Group) -> Iterator[StopRequest]:
    """Turns the first SIGINT, SIGTERM or SIGHUP, or the loss of what started this process, into a request to stop.

    SIGHUP, which comes when the terminal or the connection closes, stays ignored where it was (``nohup``).

    A second signal interrupts at once, unless there is a launcher: that hands signals on, so that they may come in
    twice, and ends its processes anyway when they take too long.

    Outside the main thread Python lets nobody set handlers; there a signal makes no request.
    """
    request, launched = StopRequest(group), started_by_launcher()
    group.on_orphan(lambda: request.make(signal.SIGTERM))
    over = threading.Event()
    if parent := os.environ.get(PARENT):
        threading.Thread(target=_watch_parent, args=(int(parent), request, over), daemon=True).start()
    if threading.current_thread() is not threading.main_thread():
        try:
            yield request
        finally:
            over.set()
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if request and not launched:
            raise KeyboardInterrupt
        request.make(signal.Signals(number))

    before = {number: signal.signal(number, handle) for number in stop_signals()}
    try:
        yield request
    finally:
        over.set()
        for number, handler in before.items():
            # A launcher that stops sends its own signal, maybe only now; this process still has to report its result.
            signal.signal(number, signal.SIG_IGN if request and launched else handler)


def _watch_parent(parent: int, request: StopRequest, over: threading.Event) -> None:
    """Makes the request once another process is this one's parent: the one that started it has ended."""
    while not over.wait(_PARENT_POLL_SECONDS):
        if os.getppid() != parent:
            logger.warning("the comparison that started this run has ended; the run saves itself and ends too")
            request.make(signal.SIGTERM)
            return
