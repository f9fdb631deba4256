"""Who is let in, and when a run is given up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from steper_agent.web.gate import Gate
from steper_agent.web.refusal import Refusal


async def stays() -> Any:
    await asyncio.Event().wait()


def leaves_after(messages: int) -> Any:
    left = iter([{"type": "http.request"}] * messages)

    async def receive() -> Any:
        return next(left, {"type": "http.disconnect"})

    return receive


async def test_work_is_done_while_somebody_listens() -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    assert await Gate(1).listening(stays, work()) == "done"


async def test_a_failure_of_the_work_is_the_callers() -> None:
    async def work() -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        await Gate(1).listening(stays, work())


async def test_a_client_that_leaves_ends_the_work_and_it_has_given_back_before_anybody_else_comes_in() -> None:
    gave_back = False

    async def work() -> str:
        nonlocal gave_back
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            gave_back = True
        return "never"

    assert await Gate(1).listening(leaves_after(2), work()) is None
    assert gave_back


async def test_a_cut_ends_the_work_and_says_so() -> None:
    gate = Gate(1)
    asyncio.get_running_loop().call_later(0.01, gate.cut)
    with pytest.raises(Refusal, match="closing"):
        await gate.listening(stays, stays())


async def test_cancelling_the_listener_ends_the_work() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    listening = asyncio.create_task(Gate(1).listening(stays, work()))
    await asyncio.sleep(0.01)
    listening.cancel()
    await asyncio.wait([listening])
    assert listening.cancelled()
    assert ended.is_set()


def test_a_full_gate_and_a_closing_one_let_nobody_in() -> None:
    gate = Gate(1)
    with gate.entered(), pytest.raises(Refusal) as full, gate.entered():
        pass
    assert (full.value.status, full.value.headers["Retry-After"], gate.inflight) == (429, "1", 0)
    gate.close()
    with pytest.raises(Refusal) as closing, gate.entered():
        pass
    assert closing.value.status == 503


def test_a_place_is_free_again_after_a_failure() -> None:
    gate = Gate(1)
    for _ in range(2):
        with pytest.raises(LookupError), gate.entered():
            raise LookupError
    assert gate.inflight == 0
