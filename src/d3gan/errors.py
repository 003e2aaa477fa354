"""The kinds of failure a user can meet, and nothing else.

Anything that is not one of these is a defect of d3gan. ``d3gan.cli`` alone turns errors into exit codes, and shows
tracebacks with ``--debug``.
"""

import difflib
from collections.abc import Iterable


class ConfigError(Exception):
    """A value the user gave is not usable: exit code 2.

    The message is one line: the key or flag, the value, what is allowed.
    """


class ExternalError(RuntimeError):
    """Disk, network or a file is not as it must be: exit code 1.

    The message says which file or host, what was expected there, and what to do next.
    """


class PeerLostError(ExternalError):
    """Another process of the run is gone, or cannot be reached: exit code 1.

    What ended it is for that process to say; this error is a consequence.
    """


class TrainingDivergedError(RuntimeError):
    """A loss or a weight is NaN or infinite: exit code 1.

    The message names the step, the network and the last good checkpoint.
    """


def first_line(error: BaseException) -> str:
    """What an error of another library says: its first line, at most 200 characters, or its type."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def nearest(word: str, known: Iterable[str], count: int = 1) -> str:
    """A hint for a mistyped word, with up to ``count`` known words, the nearest first.

    Such as `` (did you mean 'batch_size'?)``; empty where no known word is like it.
    """
    *others, last = [repr(match) for match in difflib.get_close_matches(word, list(known), count, 0.6)] or [""]
    return f" (did you mean {', '.join(others)}{' or ' if others else ''}{last}?)" if last else ""
