"""Holds a server on a leash: `python leash.py COMMAND…` runs the command and ends it, with all it has started, when the
leash is let go, that is when standard input closes. The operating system closes it with the process that held the other
end, however that one died, so no `kill -9` leaves a server behind. The standard library alone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

GRACE = 10.0
"""Seconds between asking a server to end and ending it."""
DIES_WITH_PARENT = 1
"""`PR_SET_PDEATHSIG` of Linux's prctl: for the day that this very process is killed."""


def main(command: list[str]) -> int:
    """The command's exit code."""
    parent_dies = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def in_child() -> None:
        os.setsid()
        if parent_dies:
            parent_dies(DIES_WITH_PARENT, signal.SIGKILL)

    # Safe here, where no thread has been started yet.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=in_child)  # noqa: PLW1509
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: end.set())

    def holding() -> None:
        while os.read(0, 4096):
            pass
        end.set()

    threading.Thread(target=holding, daemon=True).start()
    while child.poll() is None and not end.wait(0.2):
        pass
    code = child.poll()
    stop(child)
    return 0 if code is None else code


def stop(child: subprocess.Popen[bytes]) -> None:
    """End the child's whole process group: a server that died may have left its engine running."""
    deadline = time.monotonic() + GRACE
    _signal(child.pid, signal.SIGTERM)
    while _is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal(child.pid, signal.SIGKILL)
    child.wait()


def _is_running(child: subprocess.Popen[bytes]) -> bool:
    child.poll()
    return _signal(child.pid, 0)


def _signal(group: int, number: int) -> bool:
    """False where nobody is left in the group."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
