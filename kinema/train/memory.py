"""Large activations without page faults: every training step frees and asks again for the same blocks."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for this process instead of returning it to the system; returns whether it was done.

    By default each block over 32 MiB is mapped and unmapped anew, and its pages are zeroed again by the kernel; keeping
    them makes the steps of the small convolutional recipes faster; docs/benchmarks.md has by how much.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
