"""Other people's clients talk to a real server, and find what they know from OpenAI's."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI

from tests.graphs.serving.served import LINES, QUESTION, Teller, app_of, served

ASKED = [{"role": "user", "content": QUESTION}]
REASONING = "\n".join(LINES)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(app_of(Teller(), token="s3cret")) as door:
        yield f"{door.base_url}/v1"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="s3cret", max_retries=0) as client:
        yield client


def chat(url: str, sync: httpx.Client, both: httpx.AsyncClient | None = None) -> ChatOpenAI:
    """LangChain's own clients are kept for the process; the tests' are closed with the test."""
    return ChatOpenAI(model="steper", base_url=url, api_key="s3cret", max_retries=0, http_client=sync,  # type: ignore[arg-type]
                      http_async_client=both, stream_usage=True)  # fmt: skip


def test_openai_gets_the_answer_with_its_account(client: openai.OpenAI) -> None:
    made = client.chat.completions.create(model="steper", messages=ASKED)  # type: ignore[arg-type]
    message = made.choices[0].message
    assert (message.content, message.model_extra["reasoning_content"]) == ("1775", REASONING)  # type: ignore[index]
    assert made.choices[0].finish_reason == "stop"
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens) == (6, 15, 21)
    account = made.model_extra["steper"]  # type: ignore[index]
    assert (account["question"], account["stop"], account["supported"], account["model"]) == (QUESTION, "answered", False, "teller")
    assert [(step["query"], step["rationale"]) for step in account["steps"]] == [(QUESTION, LINES[0]), LINES]


def test_openai_streams_reasoning_events_and_answer(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="steper", messages=ASKED, stream=True,  # type: ignore[call-overload]
                                                 stream_options={"include_usage": True}))  # fmt: skip
    *told, end, usage = chunks
    deltas = [chunk.choices[0].delta for chunk in told]
    thoughts = [delta.reasoning_content for delta in deltas if hasattr(delta, "reasoning_content")]
    assert len(thoughts) > 8
    assert "".join(thoughts) == REASONING
    assert "".join(delta.content or "" for delta in deltas) == "1775"
    events = [chunk.steper["event"] for chunk in told if hasattr(chunk, "steper")]
    assert events == ["query", "hits", "rationale"] * 2
    assert [chunk.choices[0].finish_reason for chunk in (*told, end)] == [None] * len(told) + ["stop"]
    assert end.steper["stop"] == "answered"
    assert (usage.choices, usage.usage.total_tokens) == ([], 21)
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_tells_its_usage_only_if_asked(client: openai.OpenAI) -> None:
    *_, end = client.chat.completions.create(model="steper", messages=ASKED, stream=True)  # type: ignore[call-overload]
    assert (end.choices[0].finish_reason, end.usage) == ("stop", None)


async def test_openai_works_asynchronously(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key="s3cret", max_retries=0) as client:
        made = await client.chat.completions.create(model="steper", messages=ASKED)  # type: ignore[arg-type]
        assert made.choices[0].message.content == "1775"
        stream = await client.chat.completions.create(model="steper", messages=ASKED, stream=True)  # type: ignore[arg-type]
        said = [chunk.choices[0].delta.content async for chunk in stream]
        assert "".join(text or "" for text in said) == "1775"


def test_openai_finds_the_model_by_list_and_by_name(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["steper"]
    assert client.models.retrieve("steper").owned_by == "steper"
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("gpt-4o")
    assert missing.value.code == "model_not_found"


def test_openai_raises_its_own_errors(client: openai.OpenAI, url: str) -> None:
    with pytest.raises(openai.BadRequestError, match="one answer"):
        client.chat.completions.create(model="steper", messages=ASKED, n=3)  # type: ignore[call-overload]
    with openai.OpenAI(base_url=url, api_key="wrong") as stranger, pytest.raises(openai.AuthenticationError, match="bearer token"):
        stranger.models.list()


def test_langchain_invokes_and_streams(url: str) -> None:
    with httpx.Client() as http:
        model = chat(url, http)
        reply = model.invoke(QUESTION)
        assert (reply.text, reply.usage_metadata["total_tokens"]) == ("1775", 21)  # type: ignore[index]
        whole = None
        for chunk in model.stream(QUESTION):
            whole = chunk if whole is None else whole + chunk
        assert whole is not None
        assert (whole.text, whole.usage_metadata["total_tokens"]) == ("1775", 21)


async def test_langchain_works_asynchronously(url: str) -> None:
    with httpx.Client() as http:
        async with httpx.AsyncClient() as both:
            model = chat(url, http, both)
            assert (await model.ainvoke(QUESTION)).text == "1775"
            assert "".join([chunk.text async for chunk in model.astream(QUESTION)]) == "1775"
