"""Several servers as one: scripted ones for what is asked of whom, and the real engine behind two doors."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from steper_agent.errors import ModelError, StepERError
from steper_agent.models.decoding import Done, Request
from steper_agent.models.slot import ModelSlot
from steper_agent.students.fingerprint import base_fingerprint
from steper_agent.students.swap import Terms, swap_student
from steper_agent.vllm import replicas
from steper_agent.vllm.adapters import ServedAdapters
from steper_agent.vllm.client import Client, Endpoint
from steper_agent.vllm.guard import ADMIN_TOKEN, TOKEN
from steper_agent.vllm.model import VllmChatModel
from steper_agent.vllm.replicas import BLOCK, SLACK, Replica, Router
from steper_agent.vllm.served_base import attach_base, name_of
from steper_agent.vllm.source import Served
from tests.served import Serving, needs_vllm
from tests.steper_agent.vllm.relay import Relay, relayed
from tests.steper_agent.vllm.scripted import Body, scripted, told
from tests.steper_agent.vllm.test_source import REQUEST, TEXT, VOCABULARY, WRITTEN, both, text_of, whole
from tests.tiny import tiny_base

NOBODY = "http://127.0.0.1:9"
ASK = [HumanMessage("Question: who wrote the book of the town?")]


def replica_at(url: str) -> Replica:
    client = Client(Endpoint(url))
    return Replica(client, ServedAdapters(client))


def refusing(number: int, body: Body) -> Iterator[bytes | int]:
    del number, body
    yield 404
    yield b'{"error": {"message": "The model does not exist."}}'


async def test_a_stream_that_breaks_goes_on_at_the_next_server() -> None:
    def breaking(number: int, body: Body) -> Iterator[bytes | int]:
        del number
        yield told(WRITTEN[len(body["prompt"]) - 1 :][:2])
        yield -1

    with scripted(breaking) as (bad, asked_first), scripted(whole) as (good, asked_next):
        for events in await both(Served([replica_at(bad), replica_at(good)], "m", VOCABULARY)):
            assert text_of(events) == TEXT
            assert events[-1] == Done(tuple(WRITTEN), "stop")
    assert [len(body["prompt"]) for body in asked_first] == [1], "and is left alone for a while"
    assert [len(body["prompt"]) for body in asked_next] == [3, 1]


async def test_a_server_that_has_lost_a_student_is_not_asked_for_it_again() -> None:
    with scripted(refusing) as (empty, refused), scripted(whole) as (good, _):
        served = Served([replica_at(empty), replica_at(good)], "m", VOCABULARY)
        for _ in range(3):
            assert [text_of(events) for events in await both(served)] == [TEXT, TEXT]
    assert len(refused) == 1
    with scripted(refusing) as (empty, _), pytest.raises(ModelError, match="does not exist"):
        list(Served([replica_at(empty)], "m", VOCABULARY).stream(REQUEST))


async def test_all_servers_share_the_work() -> None:
    with scripted(whole) as (one, first), scripted(whole) as (other, second):
        served = Served([replica_at(one), replica_at(other)], "m", VOCABULARY)

        async def ask(number: int) -> str:
            return text_of([event async for event in served.astream(Request((number,), max_tokens=64))])

        assert set(await asyncio.gather(*(ask(number) for number in range(10)))) == {TEXT}
    assert len(first) == len(second) == 5


def test_the_steps_of_a_run_go_where_its_prefix_is_until_others_idle() -> None:
    all_of_them = [replica_at(f"http://{number}") for number in range(3)]
    router = Router(all_of_them)
    instructions = list(range(4 * BLOCK))
    runs = [[*instructions, *itertools.repeat(1000 + run, 6 * BLOCK)] for run in range(6)]
    began = []
    for run in runs:
        began.append(router.choose(run))
        with began[-1].asked():
            continue
    for _ in range(3):
        for run, at in zip(runs, began, strict=True):
            run += [7] * BLOCK
            assert router.choose(run) is at
    home = began[0]
    home.under_way = SLACK + 1
    assert router.choose(runs[0]) is not home
    home.under_way = 0
    home.rest()
    assert router.choose([*runs[0], 1]) is not home


def test_what_all_prompts_begin_with_draws_nobody() -> None:
    router = Router([replica_at("http://one"), replica_at("http://two")])
    instructions = list(range(4 * BLOCK))
    first = router.choose([*instructions, *[1] * 6 * BLOCK])
    first.under_way = 1
    assert router.choose([*instructions, *[2] * 6 * BLOCK]) is not first


def test_a_router_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "REMEMBERED", 4)
    router = Router([replica_at("http://one"), replica_at("http://two")])
    old = [5] * BLOCK
    first = router.choose(old)
    for token in range(4):
        router.choose([token] * BLOCK)
    first.under_way = 1
    assert router.choose(old) is not first


def answering(status: int, body: Any) -> Any:
    """A server that says the same to everybody."""

    def says(number: int, asked: Body) -> Iterator[bytes | int]:
        del number, asked
        yield status
        yield json.dumps(body).encode()

    return scripted(says)


@pytest.mark.parametrize(("status", "body", "why"), [
    (401, {"error": {"message": "Unauthorized"}}, "refuses: 401"),
    (200, {"data": [{"id": "base@of-another"}]}, "it serves base@of-another"),
])  # fmt: skip
def test_only_a_server_that_is_away_may_be_missing_to_begin_with(tmp_path: Path, status: int, body: Any, why: str) -> None:
    base = tiny_base(tmp_path / "base")
    name = name_of(base, base_fingerprint(base))
    with answering(200, {"data": [{"id": name}]}) as (good, _), answering(status, body) as (bad, _), answering(503, {}) as (busy, _):
        for urls in ((good, bad), (bad, good, good), (bad,)):
            with pytest.raises(ModelError, match=why):
                attach_base(base, *urls, quorum=1)
        assert attach_base(base, good, busy, NOBODY, quorum=1).name == name


@pytest.fixture
def doors(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Relay, Relay]]:
    """The real engine behind two addresses: each can go down by itself."""
    endpoint = serving.base.client.endpoint
    assert endpoint.socket
    monkeypatch.setenv(TOKEN, endpoint.token)
    monkeypatch.setenv(ADMIN_TOKEN, endpoint.admin_token)
    with relayed(endpoint.socket) as one, relayed(endpoint.socket) as other:
        yield one, other


def model_at(serving: Serving, *urls: str, quorum: int | None = None) -> VllmChatModel:
    base = attach_base(Path(serving.base.path), *urls, quorum=quorum)
    return VllmChatModel(path=str(serving.base.path), base=base, max_tokens=24)


@needs_vllm
@pytest.mark.timeout(600)
class TestTheRealEngine:
    def test_without_a_quorum_the_old_version_serves_on(self, serving: Serving, doors: tuple[Relay, Relay]) -> None:
        one, other = doors
        model = model_at(serving, one.url, other.url)
        slot = ModelSlot(model)
        other.close()
        report = swap_student(slot, model, serving.student(1), Terms([ASK]))
        assert not report.ok
        assert "is on 1 of 2 servers, and 2 must have it" in report.reason
        assert other.url in report.reason
        assert slot.current == model.version
        assert list(serving.base.client.models()) == [model.version], "what was loaded has been taken back"
        assert slot.model(slot.current).invoke(ASK).text == serving.model().invoke(ASK).text

    def test_with_a_quorum_it_takes_the_seat_and_who_missed_it_is_never_asked(
        self, serving: Serving, doors: tuple[Relay, Relay]
    ) -> None:
        one, other = doors
        model = model_at(serving, one.url, other.url, quorum=1)
        slot = ModelSlot(model)
        other.close()
        report = swap_student(slot, model, serving.student(1), Terms([ASK]))
        assert report.ok, report.reason
        other.open()
        seated = slot.model(slot.lease("run"))
        assert isinstance(seated, VllmChatModel)
        before = other.connections
        assert len({seated.invoke(ASK).text for _ in range(4)}) == 1
        assert other.connections == before
        slot.release("run")
        seated.unload()

    def test_a_server_that_fails_at_the_canary_gives_the_student_up(self, serving: Serving, doors: tuple[Relay, Relay]) -> None:
        one, other = doors
        model = model_at(serving, one.url, other.url, quorum=1)
        slot = ModelSlot(model)
        report = swap_student(slot, model, serving.student(1), Terms([ASK]),
                              on_event=lambda phase, _: other.close() if phase == "canary" else None)
        assert report.ok, report.reason
        seated = slot.model(slot.current)
        assert isinstance(seated, VllmChatModel)
        assert [replica.url for replica in seated.source.router.replicas] == [one.url]
        seated.unload()

    def test_a_student_that_another_process_took_away_is_back_before_anybody_notices(self, serving: Serving) -> None:
        student = serving.model().with_student(serving.student(1))
        expected = student.invoke(ASK).text
        for _ in range(2):
            serving.base.client.unload(student.version)
            assert student.invoke(ASK).text == expected
        student.unload()
        assert list(serving.base.client.models()) == [serving.base.name]

    def test_too_few_to_begin_with_is_told(self, serving: Serving, doors: tuple[Relay, Relay]) -> None:
        one, _ = doors
        with pytest.raises(StepERError, match="1 of 3 servers"):
            model_at(serving, one.url, NOBODY, NOBODY)
        assert model_at(serving, one.url, NOBODY, quorum=1).invoke(ASK).text == serving.model().invoke(ASK).text

    def test_a_run_goes_on_when_its_server_goes_down_in_the_middle(self, serving: Serving, doors: tuple[Relay, Relay]) -> None:
        one, other = doors
        model = model_at(serving, one.url, other.url)
        expected = serving.model().invoke(ASK).text
        heard = []
        for chunk in model.stream(ASK):
            heard.append(chunk.text)
            if len(heard) == 3:
                first = max(doors, key=lambda door: door.connections)
                first.close()
        assert "".join(heard) == expected
