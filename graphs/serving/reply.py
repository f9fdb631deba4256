"""An answer in OpenAI's envelopes: whole, or chunk by chunk. Pure: events in, JSON-able objects out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from graphs.serving.events import Ended, Happened, Written

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """What stands on every envelope of one answer."""

    id: str
    model: str
    """The name the client asked for; the version that served is in the account."""
    created: int
    """Seconds since the epoch."""

    def whole(self, ended: Ended) -> dict[str, Any]:
        message = {"role": "assistant", "content": ended.answer, "reasoning_content": ended.reasoning}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return {"id": self.id, "object": "chat.completion", "created": self.created, "model": self.model, "choices": [choice],
                "usage": ended.usage.model_dump(), "steper": ended.account.model_dump(mode="json")}

    def opening(self) -> dict[str, Any]:
        return self._chunk({"role": "assistant", "content": ""})

    def going(self, event: Written | Happened | Ended) -> dict[str, Any]:
        """A chunk while the run goes on: more reasoning, or an event of the graph beside an empty delta."""
        match event:
            case Written(text):
                return self._chunk({"reasoning_content": text})
            case Happened(happened):
                return {**self._chunk({}), "steper": dict(happened)}
            case Ended(answer=answer):
                return self._chunk({"content": answer})

    def closing(self, ended: Ended, *, with_usage: bool) -> list[dict[str, Any]]:
        """The answer, the end with the account, and the usage if it was asked for."""
        end = {**self._chunk({}, finish="stop"), "steper": ended.account.model_dump(mode="json")}
        usage = {**self._chunk({}), "choices": [], "usage": ended.usage.model_dump()}
        return [self.going(ended), end, *([usage] if with_usage else [])]

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
                "choices": [choice]}


def to_json(value: Any) -> bytes:
    """ASCII, with everything else escaped: whatever a passage holds, no line end and no half character gets onto the wire."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def server_sent(*values: Any) -> bytes:
    return b"".join(b"data: " + to_json(value) + b"\n\n" for value in values)
