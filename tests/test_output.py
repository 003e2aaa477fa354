"""Lines for a reader who may have left."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from d3gan.output import answer, say


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


class Full(io.StringIO):
    """A stream whose disk is full."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_costs_a_message_and_not_the_work() -> None:
    say("lost", Full())
    closed = io.StringIO()
    closed.close()
    say("lost", closed)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [["--version"], ["models"]])
def test_an_answer_that_cannot_be_written_is_an_error(words: list[str]) -> None:
    command = [sys.executable, "-m", "d3gan", *words]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("d3gan: error: standard output: No space left on device")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell closes the stream")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_cost_nothing(closed: str) -> None:
    command = f'"{sys.executable}" -m d3gan models {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8:strict"])
def test_letters_that_an_encoding_lacks_are_replaced(encoding: str, tmp_path: Path) -> None:
    name = "фото-\udce9" if encoding.startswith("utf") else "фото"
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    code = (
        "from d3gan.output import answer, prepare_streams, say; import sys; prepare_streams(); "
        f"answer({name!r}); say({name!r}, sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert b"\\u0444" in done.stdout or "фото".encode() in done.stdout
    assert (b"\\udce9" in done.stdout) == ("\udce9" in name)


def test_control_characters_reach_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b]0;title\x07b\tc\nd\x9b2Je\u202ef\r")
    answer("\x1b[2J")
    assert capsys.readouterr().out == "a\\x1b]0;title\\x07b\tc\nd\\x9b2Je\\u202ef\\r\n\\x1b[2J\n"


def test_an_interrupt_while_modules_load_is_no_traceback(tmp_path: Path) -> None:
    """As tyro loads, SIGINT arrives, and the half-loaded module raises something else."""
    (tmp_path / "tyro.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    import time; time.sleep(9)\n"
        "except KeyboardInterrupt:\n    raise ImportError('half loaded')\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "d3gan", "models"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, check=False)
    assert (done.returncode, done.stderr) == (130, "d3gan: interrupted\n")
