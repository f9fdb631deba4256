"""Pacing: refusals halve what is under way, answers raise it, and what was refused is done again without repeating a call."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from itertools import repeat
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

from graphs.pacing import LONGEST_PAUSE, PATIENCE, RAISE_AFTER, TRIES, Pace
from graphs.retrying import PACED, RETRY, is_rate_limit, retry_after
from graphs.run import Context, aanswer_all
from steper_agent.errors import ModelError
from steper_agent.journal import Journal, read, trajectories
from steper_agent.records import NodeRecord, Question
from tests.fakes import Script, Shelf

LINES = ("Jane Austen wrote Emma.", "Jane Austen was born in 1775. So the answer is: 1775.")
ALWAYS = 10**6
SHELF = Shelf(texts={"Emma": "Jane Austen wrote Emma.", "Jane Austen": "Jane Austen was born in 1775."})


class Refused(Exception):
    """As a provider's client raises it."""

    def __init__(self, code: int = 429, **headers: str) -> None:
        super().__init__(f"HTTP {code}")
        self.response = httpx.Response(code, headers={name.replace("_", "-"): value for name, value in headers.items()})


class ProviderRateLimitError(Exception):
    """Known by its name only."""


class Clock:
    """Time that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def paced(most: int) -> tuple[Pace, Clock]:
    clock = Clock()
    return Pace(most, clock=clock, sleep=clock.sleep), clock


async def answered() -> str:
    return "answer"


def refusing(times: int, error: Exception | None = None) -> Any:
    """Work that is refused so often, and then comes through."""
    left = repeat(error or Refused(), times)

    async def work() -> str:
        for refusal in left:
            raise refusal
        return "answer"

    return work


async def test_never_more_are_under_way_than_asked_for() -> None:
    pace, most = Pace(3), 0

    async def work() -> None:
        nonlocal most
        most = max(most, pace.under_way)
        await asyncio.sleep(0)

    await asyncio.gather(*(pace.keep(work) for _ in range(20)))
    assert (most, pace.under_way) == (3, 0)


async def test_a_place_is_taken_as_soon_as_it_is_free() -> None:
    pace, ends = Pace(2), [asyncio.Event() for _ in range(3)]
    begun: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        await ends[number].wait()

    group = [asyncio.create_task(pace.keep(lambda number=number: work(number))) for number in range(3)]
    await asyncio.sleep(0.01)
    assert begun == [0, 1]
    ends[1].set()
    await asyncio.sleep(0.01)
    assert begun == [0, 1, 2]
    ends[0].set()
    ends[2].set()
    await asyncio.gather(*group)


async def test_a_refusal_halves_and_answers_raise_one_by_one() -> None:
    pace, clock = paced(8)
    assert await pace.keep(refusing(2)) == "answer"
    assert (pace.limit, clock.slept) == (2, [1.0, 2.0])
    for _ in range(RAISE_AFTER - 1):
        await pace.keep(answered)
    assert pace.limit == 3
    for _ in range(100 * RAISE_AFTER):
        await pace.keep(answered)
    assert pace.limit == pace.most == 8
    assert await pace.keep(refusing(1)) == "answer"
    assert (pace.limit, clock.slept[2:]) == (4, [1.0])


async def test_a_burst_of_refusals_is_one_cut() -> None:
    pace, _ = paced(16)
    together = asyncio.Barrier(16)

    def work() -> Any:
        later = refusing(1)

        async def first_together() -> Any:
            if pace.limit == 16:
                await together.wait()
            return await later()

        return first_together

    assert await asyncio.gather(*(pace.keep(work()) for _ in range(16))) == ["answer"] * 16
    assert 8 <= pace.limit <= 8 + 16 // RAISE_AFTER


async def test_the_limit_never_falls_below_one_and_the_pause_never_grows_beyond_its_bound() -> None:
    pace, clock = paced(2)
    assert await pace.keep(refusing(TRIES - 1)) == "answer"
    assert pace.limit == 1
    assert max(clock.slept) == LONGEST_PAUSE


@pytest.mark.parametrize("headers", [{"Retry_After": "17"}, {"retry_after_ms": "17000", "retry_after": "99"}])
async def test_a_named_time_is_waited_for(headers: dict[str, str]) -> None:
    pace, clock = paced(4)
    assert await pace.keep(refusing(1, Refused(**headers))) == "answer"
    assert clock.slept == [17.0]


async def test_what_waiting_does_not_cure_is_raised_at_once() -> None:
    pace, clock = paced(4)
    for error in (ValueError("no"), Refused(400), ModelError("no", where="here", fix="that"), Refused(Retry_After=str(PATIENCE + 1))):
        with pytest.raises(type(error)):
            await pace.keep(refusing(1, error))
    assert clock.slept == []
    assert pace.under_way == 0


async def test_one_question_that_is_always_refused_fails_alone() -> None:
    pace, clock = paced(2)

    async def others() -> None:
        while not hopeless.done():
            await pace.keep(answered)
            await asyncio.sleep(0)

    hopeless = asyncio.create_task(pace.keep(refusing(ALWAYS)))
    await others()
    assert isinstance(hopeless.exception(), Refused)
    assert sum(clock.slept) <= TRIES * LONGEST_PAUSE


async def test_a_provider_that_refuses_everybody_is_not_waited_for_by_each() -> None:
    pace, clock = paced(4)
    made = await asyncio.gather(*(pace.keep(refusing(ALWAYS)) for _ in range(2000)), return_exceptions=True)
    assert {type(one) for one in made} == {Refused}
    assert sum(clock.slept) <= TRIES * LONGEST_PAUSE
    assert await pace.keep(answered) == "answer"
    assert await pace.keep(refusing(1)) == "answer"


def test_a_rate_limit_is_known_by_its_code_or_its_name() -> None:
    assert is_rate_limit(Refused())
    assert is_rate_limit(ProviderRateLimitError())
    assert not any(map(is_rate_limit, (Refused(503), TimeoutError(), ModelError("no", where="here", fix="that"))))


def test_the_graph_leaves_a_rate_limit_to_the_pace_and_retries_the_rest_itself() -> None:
    for policy, codes in ((RETRY, {429, 503}), (PACED, {503})):
        assert callable(policy.retry_on)
        assert {code for code in (400, 429, 503) if policy.retry_on(Refused(code))} == codes


@pytest.mark.parametrize("value", ["", "soon", "Fri, 99 Foo"])
def test_a_time_nobody_can_read_is_no_time(value: str) -> None:
    assert retry_after(Refused(Retry_After=value)) is None


def test_a_date_is_a_time_to_wait_until() -> None:
    wait = retry_after(Refused(Retry_After=formatdate(time.time() + 90, usegmt=True)))
    assert wait == pytest.approx(90, abs=5)
    assert retry_after(Refused(Retry_After=formatdate(time.time() - 90, usegmt=True))) == 0
    assert retry_after(ValueError()) is None


class Busy(Script):
    """A provider that bears one question at a time, and refuses whoever comes while it answers another."""

    _asking: int = PrivateAttr(default=0)
    _refused: int = PrivateAttr(default=0)
    _said: int = PrivateAttr(default=0)

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        del args, kwargs
        if self._asking:
            self._refused += 1
            raise Refused(retry_after_ms="1")
        self._asking += 1
        await asyncio.sleep(0.001)
        self._asking -= 1
        self._said += 1
        line = LINES[0] if LINES[0] not in "".join(m.text for m in messages if isinstance(m, AIMessage)) else LINES[1]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=line))])


async def test_a_busy_provider_is_asked_less_and_every_question_is_answered_with_no_call_made_twice(tmp_path: Path) -> None:
    questions = [Question(id=str(number), text="When was the author of Emma born?") for number in range(12)]
    model = Busy(lines=())
    with Journal(tmp_path / "j.jsonl") as journal:
        made = await aanswer_all(questions, Context(model, SHELF, journal=journal), concurrency=6)
    assert [one.stop for one in made] == ["answered"] * 12
    assert model._refused
    assert model._said == 12 * len(LINES)
    assert sorted(one.question.id for one in trajectories(tmp_path / "j.jsonl")) == sorted(q.id for q in questions)
    fine = [(r.run, r.key) for r in read(tmp_path / "j.jsonl") if isinstance(r, NodeRecord) and r.outcome == "ok"]
    assert len(fine) == len(set(fine))
