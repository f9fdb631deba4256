"""Sync calls of coroutines: what is waited for ends with the waiting."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from graphs.bridge import run_blocking


@pytest.fixture
def listening() -> Iterator[None]:
    """To Ctrl-C, which whoever starts the tests in the background may have turned off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
def test_ctrl_c_ends_the_work_and_not_the_waiting_alone() -> None:
    ended = threading.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            ended.set()

    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        run_blocking(work())
    assert ended.is_set(), "it is over when its caller goes on"
