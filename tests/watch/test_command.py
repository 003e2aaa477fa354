"""`d3gan watch` as a person types it."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from d3gan.cli import main
from tests.report.synthetic import write_run

# Serves as the command does, and says at its end which modules it has loaded.
PROGRAM = """
import atexit, sys
atexit.register(lambda: print(sorted({"torch", "numpy", "matplotlib", "scipy"} & set(sys.modules))))
from d3gan.__main__ import run
run()
"""


def test_it_says_where_the_page_is_and_ctrl_c_ends_it_in_one_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", grids=1)
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", PROGRAM, "watch", str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline().strip() for _ in range(4)]
    port, address = re.findall(r"http://127\.0\.0\.1:(\d+)/[-\w]{32}/", lines[1])[0], lines[1]
    assert lines[0] == f"watching {run}; Ctrl-C ends it. The page:"
    assert lines[3] == f"ssh -N -L {port}:127.0.0.1:{port} {socket.gethostname()}"
    with urllib.request.urlopen(address, timeout=20) as answer:
        assert b"1,200 of 1,200" in answer.read()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "d3gan: interrupted\n")
    assert output == "[]\n", "looking at runs needs none of them"


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        ("", 2, "RUN is missing: d3gan watch RUN [OPTIONS]"),
        ("nowhere", 2, "nowhere: does not exist; give a run directory, or a folder of runs"),
        ("file", 2, "file: is a file; give a run directory"),
        (". --port 65536", 2, "port = 65536: must be from 0 to 65535"),
        (". --port TAKEN", 1, "Address already in use; give another one, or none for a free one"),
        (". --prot 1", 2, "--prot: unknown flag (did you mean '--port'?)"),
    ],
)
def test_mistakes_get_one_line(
    words: str,
    code: int,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["watch", *words.replace("TAKEN", str(taken.getsockname()[1])).split()]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
