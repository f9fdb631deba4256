"""Runs go on beside the screen: what happens is told in order, whoever stops listening stops them, and what they held is free."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from graphs.run import Context, build_graph
from steper_agent.errors import ConfigError
from steper_agent.models.slot import ModelSlot
from steper_agent.retrieval import build_index, open_index
from steper_agent.retrieval.following import opened
from steper_agent.retrieval.service import create_search_app
from tests.fakes import Humming, Script
from tests.steper_agent.retrieval.shelves import PASSAGES, write_lines
from tests.steper_agent.retrieval.stacks import serving
from training import models
from tui.app.desk import Choice, Desk
from tui.app.messages import Asked, Ended, Happening, Reasoned, Wrote
from tui.app.running import Background, joined

HELD = list[str]()


async def telling(*told: Happening | Exception, forever: bool = False) -> AsyncGenerator[Happening]:
    HELD.append(threading.current_thread().name)
    try:
        for one in told:
            if isinstance(one, Exception):
                raise one
            yield one
            await asyncio.sleep(0)
        if forever:
            await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        HELD.clear()


async def hear(source: AsyncGenerator[Happening], heard: list[Happening], background: Background | None = None) -> None:
    async for one in (background or Background()).listen(source):
        heard.append(one)


def test_pieces_of_one_rationale_come_as_one_and_nothing_is_lost_or_turned_around() -> None:
    told = deque[Happening]([Asked(1, "q"), Wrote(1, "a"), Wrote(1, "b"), Reasoned(1, "ab", "ok"), Asked(2, "r"), Wrote(2, "c"), Wrote(3, "d")])
    assert [*joined(told)] == [Asked(1, "q"), Wrote(1, "ab"), Reasoned(1, "ab", "ok"), Asked(2, "r"), Wrote(2, "c"), Wrote(3, "d")]
    assert not told


async def test_what_happens_is_told_from_another_thread_in_its_order() -> None:
    told = [Asked(1, "q"), Reasoned(1, "r", "ok"), Asked(2, "q"), Reasoned(2, "r", "ok")]
    heard = list[Happening]()
    await hear(telling(*told), heard)
    assert heard == told


async def test_what_was_told_before_a_failure_is_heard_and_then_the_failure() -> None:
    heard = list[Happening]()
    with pytest.raises(LookupError, match="gone"):
        await hear(telling(Asked(1, "q"), LookupError("gone")), heard)
    assert heard == [Asked(1, "q")]


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_whoever_stops_listening_goes_on_when_the_run_has_ended(is_cancelled: bool) -> None:
    first = asyncio.Event()

    async def listen() -> None:
        async with aclosing(Background().listen(telling(Asked(1, "q"), forever=True))) as told:
            async for _ in told:
                assert threading.current_thread().name not in HELD
                first.set()
                if not is_cancelled:
                    break

    listening = asyncio.create_task(listen())
    await first.wait()
    if is_cancelled:
        assert HELD
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
    await asyncio.wait([listening])
    assert not HELD


async def test_all_runs_share_one_loop() -> None:
    loops = set[asyncio.AbstractEventLoop]()

    async def note() -> AsyncGenerator[Happening]:
        loops.add(asyncio.get_running_loop())
        yield Asked(1, "q")

    background = Background()
    await asyncio.gather(*(hear(note(), [], background) for _ in range(3)))
    assert len(loops) == 1
    assert asyncio.get_running_loop() not in loops


@pytest.mark.usefixtures("world")
async def test_a_run_that_is_stopped_gives_its_model_back() -> None:
    desk, choice = Desk(), Choice()
    question = desk.question_ideas(choice, 1)[0]
    async with aclosing(desk.ask(question, (), choice)) as told:
        async for _ in told:
            break
    assert [slot._leases for slot in slots(desk)] == [{}]
    assert isinstance([one async for one in desk.ask(question, (), choice)][-1], Ended)
    assert [slot._leases for slot in slots(desk)] == [{}]


async def test_what_others_write_into_the_stream_is_none_of_what_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    slot = ModelSlot(Script(lines=("So the answer is: Ann.",)))
    context = Context(slot, Humming(texts={"Ann": "Who is Ann"}))
    monkeypatch.setattr(Desk, "_open", lambda *_: (context, build_graph(), slot))
    *_, end = [one async for one in Desk().ask("Who?", (), Choice())]
    assert isinstance(end, Ended)
    assert end.trajectory.answer == "Ann"


@pytest.mark.usefixtures("world")
async def test_what_is_open_waits_for_nothing_that_is_being_opened_and_freezes_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, opening, may_go_on, open_model = Desk(), threading.Event(), threading.Event(), models.open_model

    def slow(spec: str, **given: Any) -> Any:
        if spec == "slow":
            opening.set()
            assert may_go_on.wait(30)
            raise ConfigError("no such model", where=spec, fix="name another")
        return open_model(spec, **given)

    monkeypatch.setattr(models, "open_model", slow)
    await desk.open(Choice())
    other = asyncio.ensure_future(desk.open(Choice(model="slow")))
    assert await asyncio.to_thread(opening.wait, 30)
    frozen = gc.get_freeze_count()
    await asyncio.wait_for(desk.open(Choice(k=2)), 20)
    # Fewer is no harm: what is frozen is still freed when nothing needs it.
    assert gc.get_freeze_count() <= frozen
    may_go_on.set()
    with pytest.raises(ConfigError, match="no such model"):
        await other


async def test_a_service_stands_where_an_index_does_and_says_why_itself(tmp_path: Path) -> None:
    build_index([write_lines(tmp_path / "passages.jsonl", PASSAGES)], tmp_path / "index")
    seat = opened(open_index(tmp_path / "index"))
    with serving(create_search_app(lambda: seat)) as (url, _):
        desk, choice = Desk(), Choice(index=url)
        await desk.open(choice)
        assert [hit.passage.id for hit in desk._indexes[url].search("Lovelace", 1)] == ["a"]
        with pytest.raises(ConfigError, match="told where the index is"):
            await desk.why(choice, "Ada", PASSAGES[0]["id"])


def slots(desk: Desk) -> list[ModelSlot]:
    return list(desk._slots.values())
