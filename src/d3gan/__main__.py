"""Where every program of this package starts: ``d3gan``, ``python -m d3gan``, ``train.py`` and ``train_ddp.py``."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from d3gan.interrupt import remember_interrupts, was_interrupted


def run(program: str = "d3gan", implied: Sequence[str] = ()) -> NoReturn:
    """Runs the command that this process was called with, and ends it.

    Args:
        program: its name in messages.
        implied: words that come before those of the command line.
    """
    remember_interrupts()
    try:
        from d3gan.cli import main
    except BaseException:
        if not was_interrupted():
            raise
        os.write(2, f"{program}: interrupted\n".encode())
        os._exit(130)  # what is half loaded need not be unloaded
    sys.exit(main(sys.argv[1:], program, implied))


if __name__ == "__main__":
    run()
