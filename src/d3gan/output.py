"""Lines for whoever reads standard output or standard error, who may have left, and whose terminal may lack letters.

``say`` is for messages, which never cost the work; ``answer`` is for what a command was asked for.
"""

import logging
import os
import re
import sys
from pathlib import Path
from typing import TextIO

from d3gan.errors import ExternalError

# What moves a terminal's cursor, sets its title or reverses its text: C0 but tab and line break, C1, and the
# characters that change the direction of writing. Names of files and of what is in them may hold any of these.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def prepare_streams() -> None:
    """Has both streams replace letters that their encoding lacks; closed ones (``>&-``) take what is printed.

    The encoding stays the user's.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # as long as the process
        elif hasattr(stream, "reconfigure") and stream.errors != "backslashreplace":
            stream.reconfigure(errors="backslashreplace")


def printable(text: str) -> str:
    r"""The text with control characters as escapes: ``\x1b`` for ESC."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def say(text: str, stream: TextIO | None = None) -> None:
    """Prints a message at once, to standard output by default; where that cannot be written, it is lost silently.

    A pipe's reader may have left, or the disk that a log is on may be full: no reason to end what works.
    """
    stream = stream or sys.stdout
    try:
        print(printable(text), file=stream, flush=True)
    except BrokenPipeError:
        silence(stream)
    except (OSError, ValueError):  # a full disk; a closed file
        pass


class MessageHandler(logging.Handler):
    """Prints log messages as plain lines: to standard output, or once ``to_stderr`` is set to standard error."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.to_stderr = False

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a message."""
        level = "warning: " if record.levelno >= logging.WARNING else ""
        say(level + record.getMessage(), sys.stderr if self.to_stderr else sys.stdout)


def answer(text: object) -> None:
    """Prints what a command was asked for.

    Raises:
        BrokenPipeError: the reader has left.
        ExternalError: standard output cannot be written, such as to a full disk.
    """
    try:
        print(printable(str(text)), flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        silence(sys.stdout)
        raise ExternalError(
            f"standard output: {error.strerror or error}; free some space, or let it go elsewhere"
        ) from error


def settle() -> None:
    """Empties standard output before the process ends; what a full disk did not take is given up."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        silence(sys.stdout)


def silence(stream: TextIO) -> None:
    """Discards what is printed from now on, so that Python does not complain about a closed pipe at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
