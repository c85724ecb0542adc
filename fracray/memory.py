"""The memory of a process that computes on CPUs: kept from batch to batch."""

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""What mallopt(3) calls M_TRIM_THRESHOLD and M_MMAP_MAX."""
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process keep the memory of freed tensors for the next ones instead of returning it.

    The C library of Linux (glibc) asks the system for each block of more than 32 MB anew and returns it when
    it is freed, so that every batch pays for the pages of its activations again. See
    `benchmarks/memory.py`. The process then holds its peak until it ends. Without glibc nothing changes.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _NEVER)
