"""How a process reports why it ends: one line for a person, and under torchrun a file for the launcher.

All processes of a host meet the same mistake. Only one of them prints it, and only one tells the launcher not to
restart them.
"""

import hashlib
import json
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from d3gan.errors import ConfigError, ExternalError, PeerLostError, TrainingDivergedError
from d3gan.files import write_text
from d3gan.output import say, settle

# Set by ``distributed.launcher`` for the processes it starts: it reads their files and prints what went wrong itself.
LAUNCHED = "D3GAN_LAUNCHED"
# What PyTorch's allocators say, of a GPU and of the host.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def message_of(error: BaseException) -> str:
    """The line that an error gets."""
    if isinstance(error, ConfigError | ExternalError | TrainingDivergedError):
        return f"error: {error}"
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        return f"error: not enough memory ({reason}); ask for fewer or smaller images"
    return f"error: unexpected {reason}; --debug shows where; please report it"


def code_of(error: BaseException) -> int:
    """The exit code that an error gets."""
    return 2 if isinstance(error, ConfigError) else 1


def report(program: str, error: BaseException, debug: bool = False) -> None:
    """Writes the line to standard error, or for the launcher, or both."""
    if debug:
        traceback.print_exception(error)
    file = os.environ.get("TORCHELASTIC_ERROR_FILE", "")
    if file:
        _write_for_launcher(error, Path(file))
    launcher_says = file and os.environ.get(LAUNCHED)
    if not launcher_says and first_on_host(message_of(error)):
        say(f"{program}: {message_of(error)}", sys.stderr)
    if isinstance(error, ConfigError | TrainingDivergedError):
        _end_launcher()


def _end_launcher() -> None:
    """Keeps a launcher with restarts left from repeating what must fail again."""
    if os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") == "0":
        return
    if first_on_host("end the launcher"):
        os.kill(os.getppid(), signal.SIGTERM)
    else:
        time.sleep(1)  # else the launcher might see this process fail before the signal reaches it


def _write_for_launcher(error: BaseException, file: Path) -> None:
    """The file that PyTorch's launcher reads (documented under torch.distributed.elastic, "Error Propagation")."""
    trace = "".join(traceback.format_exception(error))
    about = {"py_callstack": trace, "timestamp": str(int(time.time()))}
    ours = {"code": code_of(error), "consequence": isinstance(error, PeerLostError)}
    report = {"message": {"message": message_of(error), "extraInfo": about, "d3gan": ours}}
    with suppress(OSError, ExternalError):  # the exit code tells the most of it
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(report))


def first_on_host(message: str) -> bool:
    """Whether no other process of this host has printed it: torchrun puts their folders next to each other."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE", "")
    if not file:
        return True
    mark = Path(file).parent.parent / f"said-{hashlib.sha256(message.encode()).hexdigest()[:16]}"
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:
        return True
    return True


def end_process(error: ConfigError | ExternalError) -> NoReturn:
    """Ends this process at once, from any thread, while its main thread is blocked inside a backend."""
    report("d3gan", error)
    settle()
    os._exit(code_of(error))


_at_once = False


def leave_at_once() -> None:
    """Makes ``leave`` end this process at once; called when it joins others."""
    global _at_once
    _at_once = True


def leave(code: int) -> int:
    """Returns the exit code; ends a process that has worked with others, with everything written and closed.

    The usual end of such a process is not safe: NCCL waits for the others, which after a failure wait for this one,
    and a thread of gloo that returns to Python while Python shuts down aborts the process (seen with PyTorch 2.13,
    about once in a hundred ends).
    """
    settle()
    if _at_once:
        os._exit(code)
    return code
