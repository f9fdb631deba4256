"""Requests over a real line that fails in every way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from steper_agent.errors import ModelError
from steper_agent.models.decoding import Done, Piece, Request
from steper_agent.models.loading import Vocabulary
from steper_agent.vllm.adapters import ServedAdapters
from steper_agent.vllm.client import Client, Endpoint
from steper_agent.vllm.replicas import Replica
from steper_agent.vllm.source import Served
from tests.steper_agent.vllm.scripted import DONE, Body, scripted, told
from tests.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
END = TOKENIZER.eos_token_id
VOCABULARY = Vocabulary(TOKENIZER, len(TOKENIZER), frozenset({END}), 0, 512)
TEXT = "the river flows north"
WRITTEN = [*TOKENIZER.encode(TEXT), END]
REQUEST = Request((5,), max_tokens=64)


def source(url: str, **settings: Any) -> Served:
    return Served([replica(url, settings.pop("silence", 20.0))], "m", VOCABULARY, **settings)


def replica(url: str, silence: float = 20.0) -> Replica:
    client = Client(Endpoint(url, silence=silence))
    return Replica(client, ServedAdapters(client))


def whole(number: int, body: Body) -> Iterator[bytes | int]:
    del number
    yield told(WRITTEN[len(body["prompt"]) - 1 :], "stop")
    yield DONE


def text_of(events: list[Piece | Done]) -> str:
    return "".join(event.text for event in events if isinstance(event, Piece))


async def both(served: Served, request: Request = REQUEST) -> list[list[Piece | Done]]:
    """What the blocking way tells, and what the other does."""
    blocking = await asyncio.to_thread(lambda: list(served.stream(request)))
    return [blocking, [event async for event in served.astream(request)]]


async def test_a_stream_that_breaks_goes_on_where_it_broke() -> None:
    def breaking(number: int, body: Body) -> Iterator[bytes | int]:
        left = WRITTEN[len(body["prompt"]) - 1 :]
        if number % 3 == 2:
            yield from whole(number, body)
        else:
            yield told(left[:2])
            yield -1

    with scripted(breaking) as (url, bodies):
        for events in await both(source(url)):
            assert text_of(events) == TEXT
            assert events[-1] == Done(tuple(WRITTEN), "stop")
    assert [len(body["prompt"]) for body in bodies] == [1, 3, 5] * 2


async def test_a_completed_reply_is_never_asked_for_again_though_the_line_breaks_behind_it() -> None:
    def breaking_late(number: int, body: Body) -> Iterator[bytes | int]:
        del number, body
        yield told(WRITTEN, "stop")
        yield -1

    with scripted(breaking_late) as (url, bodies):
        assert [text_of(events) for events in await both(source(url))] == [TEXT, TEXT]
    assert len(bodies) == 2


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_server_is_asked_again(status: int) -> None:
    def busy_first(number: int, body: Body) -> Iterator[bytes | int]:
        if number % 2:
            yield from whole(number, body)
        else:
            yield status

    with scripted(busy_first) as (url, bodies):
        assert [text_of(events) for events in await both(source(url))] == [TEXT, TEXT]
    assert len(bodies) == 4


async def test_an_error_of_the_server_inside_the_stream_is_a_break() -> None:
    def failing_first(number: int, body: Body) -> Iterator[bytes | int]:
        if number % 2:
            yield from whole(number, body)
        else:
            yield told(WRITTEN[:3])
            yield b'data: {"error": {"message": "EngineDeadError", "code": 500}}\n\n'

    with scripted(failing_first) as (url, bodies):
        assert [text_of(events) for events in await both(source(url))] == [TEXT, TEXT]
    assert [len(body["prompt"]) for body in bodies] == [1, 4, 1, 4]


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_a_refusal_is_told_at_once_and_not_tried_again(status: int) -> None:
    def refusing(number: int, body: Body) -> Iterator[bytes | int]:
        del number, body
        yield status
        yield b'{"error": {"message": "no such thing"}}'

    with scripted(refusing) as (url, bodies):
        with pytest.raises(ModelError, match="no such thing"):
            list(source(url).stream(REQUEST))
        with pytest.raises(ModelError, match="no such thing"):
            [event async for event in source(url).astream(REQUEST)]
    assert len(bodies) == 2


async def test_patience_ends() -> None:
    with scripted(lambda *_: iter([503])) as (url, bodies), pytest.raises(ModelError, match="does not answer"):
        list(source(url, patience=0.5).stream(REQUEST))
    assert len(bodies) > 1
    with pytest.raises(ModelError, match="does not answer"):
        [event async for event in source("http://127.0.0.1:9", patience=0.3).astream(REQUEST)]


async def test_a_server_that_asks_for_more_patience_than_there_is_is_given_up_at_once() -> None:
    with scripted(lambda *_: iter([(429, {"Retry-After": "86400"})])) as (url, bodies):
        with pytest.raises(ModelError, match="does not answer"):
            list(source(url, patience=60.0).stream(REQUEST))
        with pytest.raises(ModelError, match="does not answer"):
            [event async for event in source(url, patience=60.0).astream(REQUEST)]
    assert len(bodies) == 2


async def test_a_server_that_stays_silent_is_given_up_and_not_asked_again() -> None:
    def silent(number: int, body: Body) -> Iterator[bytes | int]:
        del number, body
        yield told(WRITTEN[:1])
        time.sleep(1.0)
        yield -1

    with scripted(silent) as (url, bodies), pytest.raises(ModelError, match="silent"):
        list(source(url, silence=0.2).stream(REQUEST))
    assert len(bodies) == 1


async def test_no_more_requests_are_under_way_than_there_is_room_for() -> None:
    under_way, most = 0, 0

    def counting(number: int, body: Body) -> Iterator[bytes | int]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        yield b""
        time.sleep(0.02)
        under_way -= 1
        yield from whole(number, body)

    with scripted(counting) as (url, bodies):
        served = source(url, most=3)

        async def one() -> str:
            return text_of([event async for event in served.astream(REQUEST)])

        assert set(await asyncio.gather(*(one() for _ in range(12)))) == {TEXT}
    assert len(bodies) == 12
    assert most <= 3


def test_one_source_serves_several_event_loops_one_after_another() -> None:
    async def one(served: Served) -> str:
        return text_of([event async for event in served.astream(REQUEST)])

    with scripted(whole) as (url, _):
        served = source(url)
        assert [asyncio.run(one(served)) for _ in range(3)] == [TEXT] * 3
