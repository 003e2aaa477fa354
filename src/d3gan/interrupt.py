"""Signals that stop a program, and Ctrl-C from the first moment on. Imports nothing that takes time.

While modules load, Python or a module may turn the KeyboardInterrupt into another error, such as an ImportError of a
half-loaded library. So the handler also remembers that it was called.
"""

import signal
from types import FrameType

# Set by ``d3gan.sweep`` for the runs that it starts: the number of the process that they end with.
PARENT = "D3GAN_PARENT"

_called = False


def remember_interrupts() -> None:
    """Has SIGINT raise KeyboardInterrupt, as Python does, and be remembered; unless it is ignored (``nohup``)."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def was_interrupted() -> bool:
    """Whether SIGINT came, while nothing else answered it."""
    return _called


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    global _called
    _called = True
    raise KeyboardInterrupt


def stop_signals() -> list[signal.Signals]:
    """The signals that ask a run to stop, without those that this process ignores."""
    hangup = (
        [signal.SIGHUP] if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
    )
    return [signal.SIGINT, signal.SIGTERM, *hangup]
