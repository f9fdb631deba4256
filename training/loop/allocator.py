"""Keep freed memory instead of giving it back: training on a CPU frees and asks for the same large blocks every update,
and fetching their pages again from the system took up to half of an update's time (Linux with glibc)."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""glibc's malloc.h."""


def keep_memory() -> bool:
    """Tell glibc to serve large blocks from its heap and never to shrink it. False where there is no glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    tell = ctypes.CDLL(None).mallopt
    return bool(tell(M_MMAP_MAX, 0)) and bool(tell(M_TRIM_THRESHOLD, 2**31 - 1))
