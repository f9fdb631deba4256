"""Bring a student into the seat of a running graph: verify, load, try, switch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from steper_agent.errors import AdapterError
from steper_agent.models.local import LocalChatModel
from steper_agent.models.slot import ModelSlot, Phase, SwapReport


def swap_student(
    slot: ModelSlot, base_model: LocalChatModel, folder: str | Path,
    canary_prompts: Sequence[Sequence[BaseMessage]] = (), *, on_event: Callable[[Phase, str], None] | None = None,
) -> SwapReport:  # fmt: skip
    """Let new runs have the student in `folder`. Never raises for a bad student: the report says why it was refused.

    `base_model.with_adapter` verifies before it loads. The canary asks for a few greedy tokens on each prompt; NaN
    anywhere or an answer without text refuses the student. Old versions stay until `slot.drain`.
    """

    def canary(model: BaseChatModel) -> None:
        for messages in canary_prompts:
            reply = model.invoke(list(messages), temperature=0.0, max_tokens=8)
            if not reply.text.strip():
                raise AdapterError("the student says nothing to a trial prompt", where=folder, fix="train it longer")

    return slot.swap(lambda: base_model.with_adapter(folder), canary=canary, on_event=on_event, unload=_unload)


def _unload(model: BaseChatModel) -> None:
    if isinstance(model, LocalChatModel):
        model.unload()
