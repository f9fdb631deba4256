"""What the engine tells becomes LangChain's messages: content as soon as it is certain, tool calls at the turn's end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, InvalidToolCall, ToolCall
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk

from steper_agent.models.decoding import Done, Piece, Request
from steper_agent.tool_calls.reading import CallReading, CallStream


def fresh_ids(messages: Sequence[BaseMessage]) -> Iterator[str]:
    """Ids for the calls of the next turn: counted, so that equal conversations get equal ids; nine letters and digits,
    as Mistral's templates want."""
    taken = [call["id"] for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
    return (name for number in count(len(taken) + 1) if (name := f"call{number:05d}") not in taken)


class Reply:
    """The answer to one request; a turn with `tools` is searched for calls of them.

    A call that cannot be read is an invalid tool call. Its `args` say what is wrong with it, and so does its `error`,
    which LangChain loses where chunks are added up.
    """

    def __init__(
        self, request: Request, version: str, tools: Sequence[Mapping[str, Any]], ids: Iterator[str], tokenizer: Any
    ) -> None:  # fmt: skip
        self._request = request
        self._version = version
        self._tokenizer = tokenizer
        self._calls = CallStream(tools) if tools else None
        self._ids = ids

    def message(self, events: Sequence[Piece | Done]) -> AIMessage:
        *pieces, done = events
        said = "".join(self._certain(piece) for piece in pieces)
        assert isinstance(done, Done)
        reading = self._close()
        wrong = [InvalidToolCall(type="invalid_tool_call", name=None, args=fault, id=next(self._ids), error=fault)
                 for fault in reading.faults]  # fmt: skip
        return AIMessage(content=said + reading.text, tool_calls=list(reading.calls), invalid_tool_calls=wrong,
                         usage_metadata=self._usage(done), response_metadata=self._metadata(done))  # fmt: skip

    def chunk(self, event: Piece | Done) -> AIMessageChunk:
        if isinstance(event, Piece):
            return AIMessageChunk(content=self._certain(event))
        reading = self._close()
        calls: list[ToolCallChunk] = [
            tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=at)
            for at, call in enumerate(reading.calls)
        ]
        calls += [tool_call_chunk(name=None, args=fault, id=next(self._ids), index=at)
                  for at, fault in enumerate(reading.faults, start=len(calls))]  # fmt: skip
        # All of the metadata comes with the last chunk: LangChain adds up chunks, lists and names included.
        return AIMessageChunk(content=reading.text, tool_call_chunks=calls, usage_metadata=self._usage(event),
                              chunk_position="last", response_metadata=self._metadata(event))  # fmt: skip

    def _certain(self, event: Piece | Done) -> str:
        text = event.text if isinstance(event, Piece) else ""
        return self._calls.push(text) if self._calls else text

    def _close(self) -> CallReading:
        reading = self._calls.close() if self._calls else CallReading("", (), ())
        named = tuple(ToolCall(type="tool_call", name=call["name"], args=call["args"], id=next(self._ids))
                      for call in reading.calls)  # fmt: skip
        return reading._replace(calls=named)

    def _metadata(self, done: Done) -> dict[str, Any]:
        about = {"prompt_ids": list(self._request.prompt), "output_ids": list(done.output_ids),
                 "finish_reason": done.finish_reason, "model_name": self._version}  # fmt: skip
        return about if self._request.logprobs is None else {**about, "logprobs": self._logprobs(done)}

    def _logprobs(self, done: Done) -> dict[str, Any]:
        """As OpenAI's models tell them, token ids added."""
        def entry(token: int, logprob: float) -> dict[str, Any]:
            return {"id": token, "token": self._tokenizer.decode([token]), "logprob": logprob}

        return {"content": [{**entry(at.token, at.logprob), "top_logprobs": [entry(*one) for one in at.top]}
                            for at in done.chances]}  # fmt: skip

    def _usage(self, done: Done) -> UsageMetadata:
        given, made = len(self._request.prompt), len(done.output_ids)
        usage = UsageMetadata(input_tokens=given, output_tokens=made, total_tokens=given + made)
        if done.cached is not None:
            usage["input_token_details"] = InputTokenDetails(cache_read=done.cached)
        return usage
