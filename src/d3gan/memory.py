"""How this process holds memory for tensors on the CPU."""

import ctypes
from contextlib import suppress

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_memory() -> None:
    """Has the C library keep what tensors give back, for the next ones; where it is not glibc nothing happens.

    By default it fetches a large tensor's memory from the system, which clears it page by page, and gives it back
    some microseconds later: thousands of pages in each training step (docs/performance.md).
    """
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        if hasattr(library, "gnu_get_libc_version"):
            library.mallopt(_M_MMAP_MAX, 0)
            library.mallopt(_M_TRIM_THRESHOLD, -1)
