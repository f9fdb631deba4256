"""What a run tells as it goes, in LangGraph's `custom` stream: its events by name, and what each of them says."""

from __future__ import annotations

from typing import Any

EVENTS = {
    "question": {"question"},
    "query": {"step", "query"},
    "hits": {"step", "hits"},
    "rationale": {"step", "rationale", "outcome"},
    "usage": {"node", "step", "prompt_tokens", "cached_tokens", "completion_tokens"},
    "answer": {"step", "answer", "stop", "supported"},
}


def is_ours(told: Any) -> bool:
    """Whether it is an event of the graph; a caller's tool may write whatever it likes into the same stream."""
    fields = EVENTS.get(str(told.get("event"))) if isinstance(told, dict) else None
    return fields is not None and fields <= told.keys()
