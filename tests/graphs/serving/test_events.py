"""A run as it is told: one text of reasoning however it was cut, and nothing kept by a run that nobody listens to."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.types import interrupt

from graphs.run import Context, build_graph
from graphs.serving.events import Ended, Event, Happened, Reasoning, Tokens, Written, told
from graphs.serving.refusal import error_object
from steper_agent.errors import ModelError
from steper_agent.models.slot import ModelSlot
from steper_agent.web.refusal import Refusal
from tests.fakes import Script
from tests.graphs.serving.served import LINES, QUESTION, SHELF, Teller

LINE = st.text(alphabet="ab \n", max_size=12)


def run(model: Any, **context: Any) -> Any:
    return told(build_graph(retry=None), {"question": QUESTION, "history": [], "run": "r"}, Context(model, SHELF, **context))


async def events(model: Any, **context: Any) -> list[Event]:
    return [event async for event in run(model, **context)]


async def test_a_run_is_told_in_order_and_ends_with_its_account() -> None:
    heard = await events(Teller())
    happened = [event.event["event"] for event in heard if isinstance(event, Happened)]
    assert happened == ["query", "hits", "rationale"] * 2
    assert sum(isinstance(event, Written) for event in heard) > 8
    *_, end = heard
    assert isinstance(end, Ended)
    assert (end.answer, end.reasoning) == ("1775", "\n".join(LINES))
    assert end.usage.model_dump() == {"prompt_tokens": 6, "completion_tokens": 15, "total_tokens": 21}
    assert (end.account.question, end.account.stop, end.account.model) == (QUESTION, "answered", "teller")
    assert [(step.query, step.rationale) for step in end.account.steps] == [(QUESTION, LINES[0]), LINES]


@pytest.mark.parametrize("written", [{"progress": 0.5}, {"event": "progress"}, {"event": "query"}, {"event": []}, "half", None])
async def test_what_a_tool_writes_into_the_stream_is_not_told(written: Any) -> None:
    @tool
    async def count() -> str:
        """Tells how far it is."""
        get_stream_writer()(written)
        return "done"

    lines = ('<tool_call>{"name": "count", "arguments": {}}</tool_call>', LINES[1])
    heard = await events(Script(lines=lines), strategy="tool_calling", tools=(count,))
    assert [event.event["event"] for event in heard if isinstance(event, Happened)] == ["rationale", "query", "hits", "rationale"]
    assert isinstance(heard[-1], Ended)
    assert heard[-1].answer == "1775"


async def test_a_tool_that_asks_a_person_is_refused() -> None:
    @tool
    async def approve() -> str:
        """Asks a person."""
        return str(interrupt("go on?"))

    lines = ('<tool_call>{"name": "approve", "arguments": {}}</tool_call>', LINES[1])
    with pytest.raises(Refusal, match="nobody can answer an interrupt over HTTP"):
        await events(Script(lines=lines), strategy="tool_calling", tools=(approve,))


@pytest.mark.parametrize("model", [Teller(), Script(lines=LINES)])
async def test_what_is_written_is_the_reasoning(model: Any) -> None:
    heard = await events(model)
    written = "".join(event.text for event in heard if isinstance(event, Written))
    assert isinstance(heard[-1], Ended)
    assert written == heard[-1].reasoning


@given(lines=st.lists(LINE, max_size=4), cuts=st.lists(st.integers(1, 5), max_size=40))
def test_any_cut_of_what_is_written_gives_the_same_text(lines: list[str], cuts: list[int]) -> None:
    reasoning, written, sizes = Reasoning(), "", iter(cuts)
    for number, line in enumerate(lines):
        while line:
            size = next(sizes, 100)
            written += reasoning.more(line[:size], str(number))
            line = line[size:]
        written += reasoning.close(lines[number].strip())
    assert written == reasoning.whole == "\n".join(line.strip() for line in lines if line.strip())


def test_a_step_that_was_recalled_is_shown_whole_and_a_second_attempt_on_a_line_of_its_own() -> None:
    reasoning = Reasoning()
    assert reasoning.close("recalled") == "recalled"
    assert reasoning.more("bad", "1") + reasoning.more("good", "2") + reasoning.close("good") == "\nbad\ngood"
    assert reasoning.whole == "recalled\ngood"


def test_usage_is_summed_over_chunks_and_missing_usage_is_nothing() -> None:
    tokens = Tokens()
    tokens.add(AIMessage("no usage"))
    for read, made in ((5, 0), (0, 2), (1, 1)):
        usage = {"input_tokens": read, "output_tokens": made, "total_tokens": read + made}
        tokens.add(AIMessageChunk("", usage_metadata=usage))
    assert tokens.spent.model_dump() == {"prompt_tokens": 6, "completion_tokens": 3, "total_tokens": 9}


@pytest.mark.parametrize("heard", range(1, 9))
async def test_whoever_stops_listening_gives_the_model_back(heard: int) -> None:
    slot = ModelSlot(Teller(version="old"))
    stream = run(slot)
    for _ in range(heard):
        await anext(stream)
    await stream.aclose()
    slot.swap(lambda: Teller(version="new"))
    assert slot.drain(0)


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        (ModelError("the prompt is too long", where="/secret/path", fix="shorten it"), 500, "ModelError", "the prompt is too long"),
        (TimeoutError(), 504, "timeout", "took too long"),
        (LookupError("key sk-123 \x1b[31mwrong"), 502, "run_failed", "LookupError"),
    ],
)
async def test_a_failed_run_is_told_without_secrets_and_logged_with_all(
    error: Exception, status: int, code: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Teller):
        async def _astream(self, *_: Any, **__: Any) -> Any:
            raise error
            yield

    slot = ModelSlot(Failing(version="old"))
    with caplog.at_level(logging.WARNING), pytest.raises(Refusal) as refused:
        await events(slot)
    said = refused.value
    assert (said.status, said.code, error_object(said)["error"]["type"]) == (status, code, "server_error")
    assert message in said.message
    assert not any(secret in said.message for secret in ("/secret", "sk-123"))
    assert "run r" in caplog.text
    assert "\x1b" not in caplog.text
    slot.swap(lambda: Teller(version="new"))
    assert slot.drain(0)
