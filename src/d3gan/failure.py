"""How a process says why it ends: one line for a person, and under torchrun a file for the launcher.

Of the processes of one host each meets the same mistake; only one of them says so.
"""

import hashlib
import json
import os
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from d3gan.errors import ConfigError, PeerLostError, WorldError
from d3gan.files import write_text

# Set by ``d3gan.launcher`` for the processes it starts: it reads their files and says itself what went wrong.
LAUNCHED = "D3GAN_LAUNCHED"
# What PyTorch's allocators say, of a GPU and of the host.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def message_of(error: BaseException) -> str:
    """The line that an error gets."""
    if isinstance(error, ConfigError | WorldError):
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
        if os.environ.get(LAUNCHED) or not _first_to_say(message_of(error), Path(file)):
            return
    print(f"{program}: {message_of(error)}", file=sys.stderr, flush=True)


def _write_for_launcher(error: BaseException, file: Path) -> None:
    """The file that PyTorch's launcher reads (documented under torch.distributed.elastic, "Error Propagation")."""
    trace = "".join(traceback.format_exception(error))
    about = {"py_callstack": trace, "timestamp": str(int(time.time()))}
    ours = {"code": code_of(error), "consequence": isinstance(error, PeerLostError)}
    told = {"message": {"message": message_of(error), "extraInfo": about, "d3gan": ours}}
    with suppress(OSError, WorldError):  # the exit code tells the most of it
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(told))


def _first_to_say(message: str, file: Path) -> bool:
    """Whether no other process of this host has said it: torchrun gives each a folder beside the others'."""
    mark = file.parent.parent / f"said-{hashlib.sha256(message.encode()).hexdigest()[:16]}"
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:
        return True
    return True


def end_process(error: ConfigError | WorldError) -> NoReturn:
    """Ends this process at once, from any thread, while its main thread is held up inside a backend."""
    report("d3gan", error)
    sys.stdout.flush()
    os._exit(code_of(error))
