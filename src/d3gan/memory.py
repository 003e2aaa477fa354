"""Memory of this process: how it is kept for tensors on the CPU, and the most it has used."""

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

import torch


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    with suppress(OSError, StopIteration, ValueError):
        # Not getrusage: on Linux it includes the parent process, so the child of a large program would look large.
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def peak_device_memory(device: torch.device) -> int | None:
    """The most bytes that tensors of this process have taken on a CUDA device; None on others."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_memory() -> None:
    """Makes glibc keep memory that tensors free, for the next ones; does nothing with another C library.

    By default it fetches a large tensor's memory from the system, which clears it page by page, and gives it back
    some microseconds later: thousands of pages in each training step (docs/performance.md).
    """
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        if hasattr(library, "gnu_get_libc_version"):
            library.mallopt(_M_MMAP_MAX, 0)
            library.mallopt(_M_TRIM_THRESHOLD, -1)
