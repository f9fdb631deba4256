"""What is sent, taught and read back in the chat templates of well-known families. TRL ships them as they were published."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from graphs.strategies.reading import visible
from graphs.strategies.tool_calling import SEARCH_TOOL
from steper_agent.errors import ModelError
from steper_agent.prompts import render, segments
from steper_agent.tool_calls.reading import read_calls
from tests.templates import tokenizer_for

FAMILIES = [
    "cohere", "cohere2", "deepseek_r1_distill", "deepseekv3", "gemma", "gemma3", "gemma4", "gemma4_v5", "lfm2", "lfm2_2_5", "llama3",
    "llama3_1", "llama3_2", "nemotron_3_nano", "nemotron_3_super", "qwen2_5", "qwen2_5_vl", "qwen3", "qwen3_5_nothink", "qwen3_5_think",
    "qwen3_6", "qwen3_instruct_2507", "qwen3_vl",
]  # fmt: skip
REFUSED = ["gptoss", "phi3", "phi3_5"]
"""For turns: they end a conversation otherwise than a turn that another follows."""


@cache
def tokenizer_of(family: str) -> Any:
    trl = find_spec("trl")
    assert trl is not None
    assert trl.origin is not None
    template = Path(trl.origin).parent / "chat_templates" / f"{family}.jinja"
    return tokenizer_for(template.read_text()) if template.is_file() else pytest.skip(f"this TRL has no template of {family}")


def called(query: str, id: str, said: str) -> AIMessage:
    return AIMessage(said, tool_calls=[{"name": "search", "args": {"query": query}, "id": id}])


def loop(said: str) -> list[BaseMessage]:
    return [SystemMessage("Answer."), HumanMessage("Who?"), called("Ada", "a", said), ToolMessage("[1] she", tool_call_id="a"),
            called("Bob", "b", said), ToolMessage("[2] he", tool_call_id="b"), AIMessage("So Ada.")]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tools", [[], [SEARCH_TOOL]], ids=["no tools", "tools"])
@pytest.mark.parametrize("said", ["", "Let me see."], ids=["silent", "in words"])
def test_each_turn_is_taught_behind_what_is_sent_for_it_and_read_back_as_it_was_meant(
    family: str, tools: list[dict[str, Any]], said: str
) -> None:
    tokenizer, talk = tokenizer_of(family), loop(said)
    parts = segments(talk, tokenizer, tools)
    assert [part.written for part in parts] == [False, True] * 3
    for number, at in enumerate((2, 4, 6)):
        before = [token for part in parts[: 2 * number + 1] for token in part.ids]
        assert before == render(talk[:at], tokenizer, tools)
        written = parts[2 * number + 1].ids
        assert written[-1] == tokenizer.eos_token_id
        reading = read_calls(tokenizer.decode(written, skip_special_tokens=True), [SEARCH_TOOL])
        asked = talk[at]
        assert isinstance(asked, AIMessage)
        assert [call["args"] for call in reading.calls] == [call["args"] for call in asked.tool_calls]
        assert visible(AIMessage(reading.text)).strip() == asked.content


@pytest.mark.parametrize("family", [*FAMILIES, *REFUSED])
def test_a_growing_turn_is_never_begun_inside_a_thought(family: str) -> None:
    tokenizer = tokenizer_of(family)
    asked = [SystemMessage("Answer."), HumanMessage("Who?")]
    head, *written = segments([*asked, AIMessage([{"type": "text", "text": "First this."}, {"type": "text", "text": "Then that."}])], tokenizer)
    sent = tokenizer.decode(head.ids)
    assert sent.count("<think>") == sent.count("</think>")
    assert "Answer." in sent
    assert "Who?" in sent
    assert [tokenizer.decode(part.ids) for part in written] == ["First this.", "Then that."]


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_that_cannot_be_taught_turn_by_turn_is_refused(family: str) -> None:
    with pytest.raises(ModelError, match="chat template"):
        segments(loop(""), tokenizer_of(family), [SEARCH_TOOL])
