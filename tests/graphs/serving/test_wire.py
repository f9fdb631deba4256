"""What is asked: read tolerantly where nothing is lost, refused where something would be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from graphs.serving.refusal import error_object
from graphs.serving.wire import conversation_of, read_request
from steper_agent.web.refusal import Refusal
from tests.graphs.serving.served import body


def read(**request: Any) -> Any:
    return read_request(json.dumps({**body(), **request}).encode())


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def test_the_last_user_message_is_the_question_and_what_was_said_before_is_the_history() -> None:
    request = read(messages=[
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "Who wrote Emma?", "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "a result", "tool_call_id": "1"},
        {"role": "assistant", "content": [{"type": "text", "text": "Jane Austen."}, {"type": "refusal", "refusal": "no"}]},
        {"role": "user", "content": [{"type": "text", "text": "And when"}, {"type": "text", "text": "was she born?"}]},
        {"role": "assistant", "content": "a prefix to go on with"},
    ])  # fmt: skip
    assert conversation_of(request) == (
        "And when\nwas she born?",
        [{"role": "user", "content": "Who wrote Emma?"}, {"role": "assistant", "content": "Jane Austen."}],
    )


def test_fields_that_are_not_known_are_ignored() -> None:
    request = read(temperature=0.3, tools=[{}], max_completion_tokens=9, user="ann", stream_options=None, n=1, stream=None)
    assert (request.stream, request.wants_usage) == (None, False)


@pytest.mark.parametrize(
    ("change", "param", "message"),
    [
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": "Who?"}, "messages", "valid array"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "blank"),
        ({"messages": user(" \n")}, "messages.0.content", "blank"),
        ({"messages": user(7)}, "messages.0.content", "valid array"),
        ({"messages": user([{"text": "no type"}])}, "messages.0.content.0.type", "required"),
        ({"messages": user([{"type": "image_url", "image_url": {"url": "x"}}])}, "messages.0.content", "not `image_url`"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, "messages", "nothing is asked"),
        ({"messages": [{"role": "wizard", "content": "Hi"}]}, "messages.0.role", "'user'"),
        ({"model": None}, "model", "valid string"),
        ({"n": 2}, "n", "one answer"),
        ({"stream": "maybe"}, "stream", "boolean"),
        ({"steper": {"k": 0}}, "steper.k", "greater than or equal to 1"),
        ({"steper": {"k": "4"}}, "steper.k", "valid integer"),
        ({"steper": {"stepz": 3}}, "steper.stepz", "only strategy, k, steps"),
    ],
)  # fmt: skip
def test_a_bad_request_is_told_where_it_is_bad(change: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        conversation_of(read(**change))
    told = refused.value
    assert (told.status, told.param) == (400, param)
    assert message in told.message
    assert error_object(told)["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'{"model": "\\ud800"}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_request_is_refused(text: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        read_request(text)
    assert refused.value.status == 400
