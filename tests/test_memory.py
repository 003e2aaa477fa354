"""Memory that a process keeps: the second step finds the pages of the first."""

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys
import torch
from d3gan.memory import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
for turn in range(12):
    if turn == 8:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(n << 18) for n in (1, 16, 64)]  # so many MB
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
def test_memory_is_kept_between_steps() -> None:
    def faults(choice: str) -> int:
        command = [sys.executable, "-c", _PROGRAM, choice]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    given_back, kept = faults("system"), faults("keep")
    assert given_back > 4 * 81 * 200, "81 MB each time, in pages of 4 KB; else this test says nothing"
    assert kept < given_back / 10, "pages were asked for again"
