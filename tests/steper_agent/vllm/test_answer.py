"""What the chunks of a broken and mended line amount to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_agent.errors import ModelError
from steper_agent.models.decoding import Done, Piece, Request
from steper_agent.models.loading import Vocabulary
from steper_agent.vllm.answer import Answer
from tests.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
END = TOKENIZER.eos_token_id
VOCABULARY = Vocabulary(TOKENIZER, len(TOKENIZER), frozenset({END}), 0, 512)
TEXT = "So the answer is: Paris. the river flows north of the old town"
IDS = TOKENIZER.encode(TEXT)


def chunk(ids: list[int], reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"token_ids": ids, "finish_reason": reason, "logprobs": None}]}


def usage(cached: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens_details": {"cached_tokens": cached}}}


def served(body: dict[str, Any], written: list[int], sizes: Iterator[int]) -> Iterator[dict[str, Any]]:
    """A server that would write `written` after the request's own prompt, in chunks of any size."""
    left = written[len(body["prompt"]) - 1 :][: body["max_tokens"]]
    while left:
        size = next(sizes)
        now, left = left[:size], left[size:]
        yield chunk(now, None if left else "stop")


@given(st.lists(st.integers(0, 6), max_size=5), st.lists(st.integers(1, 7), min_size=1))
def test_a_line_that_breaks_anywhere_tells_the_same_text_once(breaks: list[int], sizes: list[int]) -> None:
    written = [*IDS, END]
    answer = Answer(Request((5,), max_tokens=200), "m", VOCABULARY, "here")
    text, cycle = "", iter([*sizes, *([3] * 200)])
    for chunks_until_break in [*breaks, 10**6]:
        if answer.is_complete:
            break
        body = answer.body()
        assert body["prompt"] == [5, *written[: answer.length]]
        assert body["max_tokens"] == 200 - answer.length
        for number, part in enumerate(served(body, written, cycle)):
            if number == chunks_until_break:
                break
            text += "".join(piece.text for piece in answer.read(part) if isinstance(piece, Piece))
    assert answer.done() == Done(tuple(written), "stop")
    assert text == TEXT


def test_the_cache_is_what_the_first_try_found() -> None:
    answer = Answer(Request((5,)), "m", VOCABULARY, "here")
    answer.read(usage(16))
    answer.read(chunk(IDS[:2], "length"))
    answer.read(usage(48))
    assert answer.done() == Done(tuple(IDS[:2]), "length", (), 16)


def test_text_ends_where_we_find_the_stop_string_whatever_the_server_thinks() -> None:
    answer = Answer(Request((5,), stop=(" Paris",)), "m", VOCABULARY, "here")
    text = "".join(piece.text for piece in answer.read(chunk(IDS)))
    assert text == "So the answer is:"
    assert answer.is_complete


def test_chances_come_with_their_tokens() -> None:
    answer = Answer(Request((5,), max_tokens=2, logprobs=2), "m", VOCABULARY, "here")
    assert answer.body()["logprobs"] == 2
    told = {"tokens": ["token_id:7", "token_id:8"], "token_logprobs": [-0.5, -0.25],
            "top_logprobs": [{"token_id:9": -1.5, "token_id:7": -0.5}, {"token_id:8": -0.25}]}  # fmt: skip
    answer.read({"choices": [{"token_ids": [7, 8], "logprobs": told, "finish_reason": "length"}]})
    first, second = answer.done().chances
    assert (first.token, first.logprob, first.top) == (7, -0.5, ((7, -0.5), (9, -1.5)))
    assert second.token == 8


def test_a_reply_that_follows_a_schema_is_not_taken_up_in_the_middle() -> None:
    answer = Answer(Request((5,), schema='{"type": "object"}'), "m", VOCABULARY, "here")
    assert answer.body()["structured_outputs"] == {"json": {"type": "object"}}
    answer.read(chunk(IDS[:2]))
    with pytest.raises(ModelError, match="schema"):
        answer.body()


def test_what_cannot_be_answered_never_reaches_the_server() -> None:
    for request in (Request(()), Request((len(TOKENIZER),)), Request((5,) * 512), Request((5,), temperature=-1.0)):
        with pytest.raises(ModelError):
            Answer(request, "m", VOCABULARY, "here")


def test_what_is_scored_is_told_of_the_prompts_end_and_of_the_likeliest_only() -> None:
    answer = Answer(Request((5, 7, 8), max_tokens=1, logprobs=1, scored=2), "m", VOCABULARY, "here")
    body = answer.body()
    assert (body["prompt_logprobs"], body["prompt"], body["max_tokens"]) == (1, [5, 7, 8], 1)
    assert "stream" not in body
    told = [None, {"9": {"logprob": -0.5, "rank": 1}, "7": {"logprob": -1.5, "rank": 2}}, {"8": {"logprob": -0.25, "rank": 1}}]
    answer.read({"choices": [{"token_ids": [6], "finish_reason": "length", "prompt_logprobs": told}]})
    done = answer.done()
    assert [(at.token, at.logprob, at.top) for at in done.chances] == [(7, -1.5, ((9, -0.5),)), (8, -0.25, ((8, -0.25),))]
    assert done.output_ids == ()
