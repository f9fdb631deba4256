"""The real engine. One server for the file, started by the fixture `serving`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
import pytest
from langchain_core.messages import HumanMessage
from pydantic import BaseModel, Field

from steper_agent.errors import AdapterError, ModelError
from steper_agent.models.local import LocalChatModel
from steper_agent.models.spec import open_model
from steper_agent.students.golden import TIE
from steper_agent.vllm.client import Client, Endpoint
from steper_agent.vllm.guard import CLOSED, LOADING, OPEN
from steper_agent.vllm.served_base import attach_base
from tests.processes import family, kill
from tests.served import Serving, needs_vllm
from tests.tiny import tiny_adapter, tiny_base

pytestmark = [needs_vllm, pytest.mark.timeout(600)]
ASK = [HumanMessage("Question: who wrote the book of the town?")]


def http(serving: Serving, token: str = "") -> httpx.Client:
    endpoint = serving.base.client.endpoint
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(endpoint.socket)), base_url=endpoint.url, headers=headers)


def agree(served: LocalChatModel | object, ours: LocalChatModel) -> None:
    """Equal greedy tokens, up to a near-tie."""
    theirs, mine = served.greedy(PROMPT, 24), ours.greedy(PROMPT, 24)  # type: ignore[union-attr]
    for place, (one, other) in enumerate(zip(theirs.output_ids, mine.output_ids, strict=False)):
        if one != other:
            top = mine.chances[place].top
            assert top[0][1] - top[1][1] < TIE
            return
        assert theirs.chances[place].logprob == pytest.approx(mine.chances[place].logprob, abs=0.01)
    assert len(theirs.output_ids) == len(mine.output_ids)


PROMPT = tuple(range(40, 90))


def test_the_base_and_its_students_say_what_they_say_in_this_process(serving: Serving) -> None:
    served, ours = serving.model(), LocalChatModel(path=str(serving.base.path), max_tokens=24)
    assert served.version == ours.version
    agree(served, ours)
    for seed in (1, 2):
        student, mine = served.with_student(serving.student(seed)), ours.with_student(serving.student(seed))
        assert student.version == mine.version
        agree(student, mine)
        student.unload()
    assert list(serving.base.client.models()) == [served.version]
    ours.engine.close()


async def test_scores_of_given_tokens_are_those_of_this_process(serving: Serving) -> None:
    served, ours = serving.model(), LocalChatModel(path=str(serving.base.path))
    said = tuple(range(200, 230, 3))
    theirs, mine = await served.ascore(PROMPT, said, 3), await ours.ascore(PROMPT, said, 3)
    assert [at.token for at in theirs] == [at.token for at in mine] == list(said)
    for one, other in zip(theirs, mine, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=0.01)
        assert [value for _, value in one.top] == pytest.approx([value for _, value in other.top], abs=0.01)
    written = served.greedy(PROMPT, 8)
    for one, other in zip(await served.ascore(PROMPT, written.output_ids, 2), written.chances, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=0.01)
        assert len(one.top) == len(other.top) == 2
    ours.engine.close()


async def test_every_way_of_asking_says_the_same(serving: Serving) -> None:
    model = serving.model()
    whole = await asyncio.to_thread(model.invoke, ASK)
    streamed = await asyncio.to_thread(lambda: "".join(chunk.text for chunk in model.stream(ASK)))
    astreamed = "".join([chunk.text async for chunk in model.astream(ASK)])
    assert whole.text == streamed == astreamed == (await model.ainvoke(ASK)).text
    assert whole.response_metadata["prompt_ids"] == (await model.ainvoke(ASK)).response_metadata["prompt_ids"]


def test_the_share_of_a_prompt_that_was_cached_is_told(serving: Serving) -> None:
    asked = [HumanMessage("Question: " + "who wrote the book of the old town? " * 12)]
    first, second = (serving.model().invoke(asked).usage_metadata for _ in range(2))
    assert first
    assert second
    assert second["input_token_details"]["cache_read"] > first["input_tokens"] // 2
    assert second["input_token_details"]["cache_read"] > first["input_token_details"]["cache_read"]


def test_an_end_token_is_an_output_token_and_text_ends_before_it(serving: Serving) -> None:
    ends = serving.base.vocabulary.ends
    reply = serving.model(max_tokens=200, temperature=1.0, seed=4).invoke(ASK)
    ids = reply.response_metadata["output_ids"]
    assert (reply.response_metadata["finish_reason"] == "stop") == (ids[-1] in ends)
    assert not ends & set(ids[:-1])


class Person(BaseModel):
    name: str = Field(max_length=8)
    age: int = Field(ge=0, le=99)


def test_a_random_model_held_to_a_schema_follows_it(serving: Serving) -> None:
    person = serving.model(max_tokens=300).with_structured_output(Person).invoke(ASK)
    assert isinstance(person, Person)


async def test_many_at_once_each_get_their_own_answer(serving: Serving) -> None:
    model = serving.model(max_tokens=8)
    asks = [[HumanMessage(f"Question {number}: who wrote the book?")] for number in range(24)]
    one_by_one = [(await model.ainvoke(ask)).text for ask in asks[:6]]
    (replica,), most = model.base.replicas, 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, replica.under_way)
            await asyncio.sleep(0.001)

    watching = asyncio.create_task(watch())
    together = await asyncio.gather(*(model.ainvoke(ask) for ask in asks))
    watching.cancel()
    assert [reply.text for reply in together[:6]] == one_by_one
    assert most > 1, "they wait for the server together"


def test_nobody_without_the_token_gets_anything_from_any_route(serving: Serving) -> None:
    endpoint = serving.base.client.endpoint
    with http(serving, endpoint.admin_token) as admin:
        routes = admin.get("/openapi.json").json()["paths"]
    assert {LOADING, "/invocations", "/adapters", "/v1/completions"} <= routes.keys()
    with http(serving) as stranger, http(serving, "guess") as guesser, http(serving, endpoint.token) as asking:
        for path in [*routes, "/docs", "/redoc", "/openapi.json", "/no/such/route", "/health/..", "//v1/models"]:
            for method in {verb.upper() for verb in routes.get(path, {"get": 1})}:
                expected = 200 if path in OPEN else 401
                assert stranger.request(method, path).status_code == expected, path
                assert guesser.request(method, path).status_code == expected, path
        for path in CLOSED | {LOADING, "/v1/unload_lora_adapter", "/invocations", "/scale_elastic_ep"}:
            assert asking.post(path).status_code == 403, path
        for path in ("/v1/models", "/metrics", "/version", "/load", "/ping", "/openapi.json"):
            assert asking.get(path).status_code == 200, path


def test_adapters_come_from_the_students_folder_only(serving: Serving, tmp_path: Path) -> None:
    outside = tiny_adapter(serving.base.path, tmp_path / "outside", 7)
    (serving.students / "link").symlink_to(outside)
    crooked = serving.students / ".." / serving.students.name / "1"
    for path in (outside, serving.students / "link", crooked, "relative/name", serving.students / "missing"):
        with pytest.raises(AdapterError, match="students' folders"):
            serving.base.client.load("student@outside", Path(path))
    assert "student@outside" not in serving.base.client.models()
    (serving.students / "link").unlink()


def test_a_student_of_another_base_never_reaches_the_server(serving: Serving, tmp_path: Path) -> None:
    other = tiny_base(tmp_path / "other", 5, width=32)
    with pytest.raises(AdapterError, match="another base"):
        serving.model().with_student(tiny_adapter(other, tmp_path / "foreign"))
    assert list(serving.base.client.models()) == [serving.base.name]


def test_a_running_server_is_attached_to_only_for_its_own_base(serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A port in front of the socket, as an administrator would put one.
    from tests.steper_agent.vllm.relay import relayed

    endpoint = serving.base.client.endpoint
    assert endpoint.socket
    with relayed(endpoint.socket) as door:
        monkeypatch.setenv("STEPER_VLLM_TOKEN", endpoint.token)
        attached = open_model(f"vllm:{serving.base.path}@{door.url}", max_tokens=8)
        assert attached.invoke(ASK).text == serving.model(max_tokens=8).invoke(ASK).text
        with pytest.raises(ModelError, match="it serves"):
            attach_base(tiny_base(tmp_path / "other", 5), door.url)
        monkeypatch.setenv("STEPER_VLLM_TOKEN", "guess")
        with pytest.raises(ModelError, match="401"):
            attach_base(serving.base.path, door.url)
    with pytest.raises(ModelError, match="no answer"):
        Client(Endpoint(door.url)).models()


async def test_requests_outlive_the_death_of_the_server_and_students_are_there_again(serving: Serving) -> None:
    server = serving.base.server
    assert server is not None
    # Long, so that the server dies before it has said all of it.
    base = serving.model(max_tokens=900)
    student = base.with_student(serving.student(1))
    expected = [(await model.ainvoke(ASK)).text for model in (base, student)]
    restarts, died = server.restarts, asyncio.Event()

    async def asked(model: object) -> str:
        text = ""
        async for chunk in model.astream(ASK):  # type: ignore[attr-defined]
            text += chunk.text
            died.set()
        return text

    assert server.pid
    processes = family(server.pid)
    asking = [asyncio.create_task(asked(model)) for model in (base, student)]
    await died.wait()
    kill(processes)
    assert await asyncio.gather(*asking) == expected
    assert server.restarts == restarts + 1
    assert student.version in serving.base.client.models()
    student.unload()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    from steper_agent.vllm.served_base import start_base

    with pytest.raises(ModelError, match="did not start") as failed:
        start_base(tiny_base(tmp_path / "base"), extra=("--max-model-len", "1000000"))
    assert "max" in str(failed.value)
    log = Path(str(failed.value.where))
    assert log.is_file()
    assert os.stat(log.parent).st_mode & 0o077 == 0
