"""Loaded into vLLM's workers on a CPU: gives back to the system what glibc's heap keeps and nobody uses. Batches that mix
students leave it full of holes: under 16 askers, 45 swaps cost 1.6 GiB, of which all but 0.1 GiB was free."""

from __future__ import annotations

import ctypes
import threading
import time

EVERY = 5.0
"""Seconds."""


def _trim() -> None:
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own.
    while give_back:
        time.sleep(EVERY)
        give_back(0)


class Trimming:
    """A worker extension (`--worker-extension-cls`) without methods: vLLM imports it into every worker, and that starts it."""


threading.Thread(target=_trim, name="trim", daemon=True).start()
