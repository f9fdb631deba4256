from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from steper_agent.errors import AdapterError, ModelError
from steper_agent.models.local import LocalChatModel
from steper_agent.prompts import render
from tests.tiny import ScriptedEngine, tiny_base

ASK: list[BaseMessage] = [SystemMessage("Answer."), HumanMessage("Question: who wrote the book?")]


def added(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    total = chunks[0]
    for chunk in chunks[1:]:
        total = total + chunk
    return total


def test_streamed_chunks_add_up_to_what_invoke_returns(model: LocalChatModel) -> None:
    whole = model.invoke(ASK)
    chunks = [chunk for chunk in model.stream(ASK) if isinstance(chunk, AIMessageChunk)]
    assert len(chunks) > 3
    assert added(chunks).content == whole.content
    assert added(chunks).usage_metadata == whole.usage_metadata
    assert added(chunks).response_metadata == whole.response_metadata


async def test_async_says_what_sync_says(model: LocalChatModel) -> None:
    whole = model.invoke(ASK)
    again = await model.ainvoke(ASK)
    chunks = [chunk async for chunk in model.astream(ASK)]
    assert again.content == whole.content == "".join(str(chunk.content) for chunk in chunks)
    assert again.response_metadata == whole.response_metadata


async def test_many_at_once_answer_like_one_by_one_and_never_block_the_loop(model: LocalChatModel) -> None:
    questions = [[HumanMessage(f"Question: {number} of the town?")] for number in range(12)]
    alone = [model.invoke(question).content for question in questions]
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    ticking = asyncio.create_task(tick())
    together = await asyncio.gather(*(model.ainvoke(question) for question in questions))
    ticking.cancel()
    assert [reply.content for reply in together] == alone
    assert ticks > 3


def test_token_ids_are_the_ones_of_the_one_rendering_function(model: LocalChatModel) -> None:
    reply = model.invoke(ASK)
    assert reply.response_metadata["prompt_ids"] == render(ASK, model.tokenizer)
    assert model.tokenizer.decode(reply.response_metadata["output_ids"], skip_special_tokens=True) == reply.content
    assert reply.usage_metadata is not None
    assert reply.usage_metadata["output_tokens"] == len(reply.response_metadata["output_ids"])


def test_a_closing_assistant_message_is_continued(model: LocalChatModel) -> None:
    whole = model.invoke(ASK, max_tokens=12)
    ids = whole.response_metadata["output_ids"]
    head = model.tokenizer.decode(ids[:5])
    if model.tokenizer.encode(head, add_special_tokens=False) != ids[:5]:
        head = "So the answer is:"
    prefix = AIMessage(content=[{"type": "text", "text": head}])
    rest = model.invoke([*ASK, prefix], max_tokens=7)
    assert rest.response_metadata["prompt_ids"][: len(render(ASK, model.tokenizer))] == render(ASK, model.tokenizer)
    if head != "So the answer is:":
        assert rest.response_metadata["output_ids"] == ids[5:]


def test_a_stop_string_is_cut_from_the_text_and_kept_in_the_ids(model: LocalChatModel) -> None:
    whole = str(model.invoke(ASK).content)
    stop = whole[4:6]
    reply = model.invoke(ASK, stop=[stop])
    assert reply.content == whole.split(stop)[0]
    assert reply.response_metadata["finish_reason"] == "stop"
    assert stop in model.tokenizer.decode(reply.response_metadata["output_ids"])
    assert "".join(str(chunk.content) for chunk in model.stream(ASK, stop=[stop])) == reply.content


def test_length_is_the_reason_when_the_tokens_run_out(model: LocalChatModel) -> None:
    reply = model.invoke(ASK, max_tokens=2)
    assert reply.response_metadata["finish_reason"] == "length"
    assert len(reply.response_metadata["output_ids"]) == 2


def test_seeds_decide_samples(model: LocalChatModel) -> None:
    texts = [model.invoke(ASK, temperature=1.0, seed=seed).content for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_batch_is_invoke_many_times(model: LocalChatModel) -> None:
    asked = [[HumanMessage(f"book {number}")] for number in range(5)]
    assert [reply.content for reply in model.batch(asked)] == [model.invoke(one).content for one in asked]


async def test_a_cancelled_task_frees_the_engine(base: Path) -> None:
    model = LocalChatModel(path=str(base), max_tokens=450)
    passes: list[None] = []
    model.engine._model.register_forward_hook(lambda *_: passes.append(None))
    await model.ainvoke(ASK)
    whole = len(passes)
    tasks = [asyncio.create_task(model.ainvoke(ASK)) for _ in range(3)]
    while len(passes) < whole + 2:
        await asyncio.sleep(0.001)
    for task in tasks:
        task.cancel()
    assert (await model.ainvoke(ASK, max_tokens=1)).content is not None
    assert len(passes) < 2 * whole
    model.engine.close()


def test_a_student_shares_the_engine_and_has_its_own_version(
    model: LocalChatModel, students: tuple[Path, Path], tmp_path: Path
) -> None:
    before = model.invoke(ASK).content
    student = model.with_student(students[0])
    assert student.engine is model.engine
    assert model.version.startswith("base@")
    assert student.version.startswith("student@")
    assert student.invoke(ASK).content != before
    assert model.invoke(ASK).content == before
    student.unload()
    with pytest.raises(AdapterError):
        model.with_student(tiny_base(tmp_path / "no student"))


def test_messages_it_cannot_render_are_one_clear_error(model: LocalChatModel) -> None:
    with pytest.raises(ModelError, match="prompt"):
        model.invoke([HumanMessage([{"type": "image_url", "image_url": "x"}])])


Writer = Callable[[str], LocalChatModel]
CALL = '<tool_call>{"name": "search", "arguments": {"query": "é \\"Ada\\""}}</tool_call>'


@tool
def search(query: str) -> str:
    """Find passages."""
    return query


class Lookup(BaseModel):
    """Look a name up."""

    name: str = Field(description="whose")


@pytest.fixture(scope="module")
def writes(base: Path) -> Iterator[Writer]:
    """A model that writes this text, whatever it is asked."""
    text = ""
    engine = ScriptedEngine(base, lambda _prompt: text)

    def writer(wanted: str) -> LocalChatModel:
        nonlocal text
        text = wanted
        return LocalChatModel(path=str(base), engine=engine)

    yield writer
    engine.close()


def test_a_call_it_writes_is_read_and_what_it_says_besides_is_content(writes: Writer) -> None:
    model = writes(f"I must look.\n{CALL}")
    reply = model.bind_tools([search]).invoke(ASK)
    assert reply.content.strip() == "I must look."
    assert reply.tool_calls == [
        {"type": "tool_call", "name": "search", "args": {"query": 'é "Ada"'}, "id": "call00001"}
    ]
    assert reply.invalid_tool_calls == []
    assert model.tokenizer.decode(reply.response_metadata["output_ids"]).endswith(f"{CALL}<|end|>")


def test_tools_are_in_the_prompt_of_the_one_rendering_function(writes: Writer) -> None:
    model = writes("Ada.")
    bound = model.bind_tools([search, Lookup, {"name": "f", "description": "d", "parameters": {}}])
    prompt = bound.invoke(ASK).response_metadata["prompt_ids"]
    assert prompt == render(ASK, model.tokenizer, bound.kwargs["tools"])  # type: ignore[attr-defined]
    told = model.tokenizer.decode(prompt)
    assert "search(query: string) – Find passages.\nLookup(name: string) – Look a name up.\nf() – d\n" in told


async def test_streamed_calls_add_up_to_what_invoke_returns(writes: Writer) -> None:
    bound = writes(f"I must look twice.\n{CALL}\n{CALL}").bind_tools([search])
    whole = await bound.ainvoke(ASK)
    sync = [chunk for chunk in bound.stream(ASK) if isinstance(chunk, AIMessageChunk)]
    asynchronous = [chunk async for chunk in bound.astream(ASK) if isinstance(chunk, AIMessageChunk)]
    for chunks in (sync, asynchronous):
        assert len(chunks) > 3
        assert not any("<tool" in str(chunk.content) for chunk in chunks)
        total = added(chunks)
        assert (total.content, total.tool_calls) == (whole.content, whole.tool_calls)
        assert total.response_metadata == whole.response_metadata
    assert [call["id"] for call in whole.tool_calls] == ["call00001", "call00002"]


def test_ids_of_calls_are_new_in_the_conversation(writes: Writer) -> None:
    bound = writes(CALL).bind_tools([search])
    calls = [{"name": "search", "args": {"query": "x"}, "id": id} for id in ("call00003", "foreign")]
    results = [ToolMessage("y", tool_call_id=str(call["id"])) for call in calls]
    reply = bound.invoke([*ASK, AIMessage("", tool_calls=calls), *results])
    assert [call["id"] for call in reply.tool_calls] == ["call00004"]
    assert bound.invoke([*ASK, AIMessage("", tool_calls=calls), *results]).tool_calls == reply.tool_calls


def test_a_call_that_cannot_be_read_is_an_invalid_call_that_says_why(writes: Writer) -> None:
    bound = writes('<tool_call>{"name": "search", "arguments": {}}</tool_call>').bind_tools([search])
    reply = bound.invoke(ASK)
    streamed = added([chunk for chunk in bound.stream(ASK) if isinstance(chunk, AIMessageChunk)])
    for message in (reply, streamed):
        assert (message.content, message.tool_calls) == ("", [])
        [wrong] = message.invalid_tool_calls
        assert "query" in str(wrong["args"])
        assert wrong["id"] == "call00001"
    assert reply.invalid_tool_calls[0]["error"] == reply.invalid_tool_calls[0]["args"]


@pytest.mark.parametrize("bind", [lambda m: m, lambda m: m.bind_tools([search], tool_choice="none")])
def test_without_tools_to_choose_a_call_is_only_text(writes: Writer, bind: Callable[[LocalChatModel], Any]) -> None:
    model = bind(writes(CALL))
    reply = model.invoke(ASK)
    assert (reply.content, reply.tool_calls) == (CALL, [])
    assert "".join(str(chunk.content) for chunk in model.stream(ASK)) == CALL
