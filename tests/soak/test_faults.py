"""A sample of the faults of `make soak`: the shim that ends a run where it writes, and the disk that is full."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None or not sys.platform.startswith("linux"),
    reason="a faulty file system is built with a C compiler, on Linux: apt-get install gcc",
)


@pytest.mark.parametrize(("attack", "every"), [("kills", 52), pytest.param("disk", 150, marks=pytest.mark.slow)])
def test_a_run_ends_the_same_after_any_fault_of_its_disk(attack: str, every: int) -> None:
    words = [sys.executable, "-m", "tests.soak.faults", attack, "--every", str(every)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "0 findings" in done.stdout
