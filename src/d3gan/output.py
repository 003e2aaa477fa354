"""Lines for whoever reads standard output or standard error, who may have left."""

import os
import sys
from typing import TextIO


def say(text: str, stream: TextIO | None = None) -> None:
    """Prints a line at once, to standard output by default. If the reader of a pipe has left, it is lost silently."""
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        silence(stream)


def silence(stream: TextIO) -> None:
    """Discards what is printed from now on, so that Python does not complain about a closed pipe at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
