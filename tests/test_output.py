"""Lines for a reader who may have left."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "call", ["logging.getLogger('d3gan').warning('a warning')", "say('a line')", "PlainLines(9).note('a line')"]
)
def test_the_work_goes_on_after_the_reader_has_left(call: str) -> None:
    code = (
        "import logging, sys; from d3gan.cli import _LogHandler; from d3gan.output import say; "
        "from d3gan.training.progress import PlainLines\n"
        "logging.getLogger('d3gan').addHandler(_LogHandler()); sys.stdin.read()\n"
        f"for _ in range(3): {call}\n"
        "print('went on', file=sys.stderr)"
    )
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], **pipes, text=True) as process:  # type: ignore[call-overload]
        process.stdout.close()
        assert process.communicate("")[1] == "went on\n"
    assert process.returncode == 0
