"""Bring a student into the seat of a running graph: plan, then preflight, load, warm, canary, gate, switch, drain, unload."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from steper_agent.errors import AdapterError, StepERError
from steper_agent.models.decoding import Done
from steper_agent.models.slot import LOG, ModelSlot, OnPhase, Phase, SwapReport
from steper_agent.records import Mode, Record, StudentCard
from steper_agent.students.golden import check_golden
from steper_agent.students.student import read_card, read_golden

TRIAL_TOKENS = 8


@runtime_checkable
class Swappable(Protocol):
    """A model that students can take the seat of."""

    @property
    def version(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def preflight(self, folder: Path, mode: Mode = "auto") -> StudentCard: ...

    def with_student(self, folder: str | Path, mode: Mode = "auto") -> BaseChatModel: ...

    def greedy(self, prompt: Sequence[int], max_tokens: int) -> Done: ...

    def unload(self) -> None: ...


@runtime_checkable
class Replicated(Protocol):
    """A model on several servers."""

    def on_each(self, trial: Callable[[Any], object]) -> None: ...


class SwapPlan(Record):
    before: str
    after: str
    mode: Mode
    phases: tuple[Phase, ...]
    """Empty where the student serves already."""


def plan_swap(card: StudentCard, current: str, *, mode: Mode = "auto", gated: bool = False, drains: bool = False) -> SwapPlan:
    """What bringing this student in takes. Pure.

    Raises:
        AdapterError: it cannot be served in that mode.
    """
    mode = card.form if mode == "auto" else mode
    if (mode == "full") != (card.form == "full"):
        raise AdapterError(f"{card.name} is {'full weights' if card.form == 'full' else 'an adapter'}", where=f"mode {mode}",
                           fix=f"use mode auto or {'full' if card.form == 'full' else 'adapter, or merged'}")
    always: tuple[Phase, ...] = ("preflight", "load", "warm", "canary")
    gate: tuple[Phase, ...] = ("gate",) if gated else ()
    last: tuple[Phase, ...] = ("switch", "drain", "unload") if drains else ("switch",)
    return SwapPlan(before=current, after=card.name, mode=mode, phases=() if card.name == current else (*always, *gate, *last))


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a student may take the seat."""

    prompts: Sequence[Sequence[BaseMessage]] = ()
    """Asked beside the golden replies it brings; an answer without text refuses it."""
    mode: Mode = "auto"
    gate: Callable[[BaseChatModel], object] | None = None
    """Raises where the student is not good enough."""
    drain: float | None = None
    """Seconds to wait for the runs of the old version. It is unloaded when the last has ended, here or at a later
    `slot.drain`."""


def swap_student(
    slot: ModelSlot, model: Swappable, folder: str | Path, terms: Terms | None = None, *, on_event: OnPhase | None = None
) -> SwapReport:
    """Let new runs have the student in `folder`. Never raises for a bad student: the report says why it was refused, and
    the old version serves on."""
    folder, terms, tell = Path(folder), terms or Terms(), on_event or (lambda _phase, _words: None)
    prompts, drain = terms.prompts, terms.drain
    try:
        plan = plan_swap(read_card(folder), slot.current, mode=terms.mode, gated=terms.gate is not None, drains=drain is not None)
    except StepERError as refusal:
        tell("failed", str(refusal))
        return SwapReport(before=slot.current, after=slot.current, seconds={}, ok=False, reason=str(refusal))
    if not plan.phases:
        return SwapReport(before=plan.before, after=plan.after, seconds={}, ok=True)
    trials: dict[Phase, Callable[[BaseChatModel], object]] = {
        "warm": lambda student: _on_each(student, lambda one: _warm(one, folder, prompts)),
        "canary": lambda student: _on_each(student, lambda one: _canary(one, folder, prompts)),
        "gate": terms.gate or (lambda _: None),
    }
    report = slot.swap(
        lambda: model.with_student(folder, plan.mode), preflight=lambda: model.preflight(folder, plan.mode), on_event=on_event,
        trials=[(phase, trials[phase]) for phase in plan.phases if phase in trials], unload=unload,
    )  # fmt: skip
    return report if drain is None or not report.ok else _drained(slot, report, drain, tell)


def swap_base(slot: ModelSlot, model: Swappable, *, drain: float | None = None, on_event: OnPhase | None = None) -> SwapReport:
    """Let new runs have the base alone again. `drain`: seconds to wait for the runs of the student that goes."""
    report = slot.swap(lambda: model, version=model.version, on_event=on_event)  # type: ignore[arg-type, return-value]
    return report if drain is None else _drained(slot, report, drain, on_event or (lambda _phase, _words: None))


def _on_each(student: BaseChatModel, trial: Callable[[BaseChatModel], object]) -> None:
    student.on_each(trial) if isinstance(student, Replicated) else trial(student)


def unload(model: BaseChatModel) -> None:
    """Free what a model took, where it is one that can be freed."""
    if isinstance(model, Swappable):
        model.unload()


def _warm(student: BaseChatModel, folder: Path, prompts: Sequence[Sequence[BaseMessage]]) -> None:
    """The first token of a new student costs its engine more than all later ones: nobody shall wait for it."""
    for golden in read_golden(folder)[:1]:
        if isinstance(student, Swappable):
            student.greedy(golden.prompt, 1)
    for messages in prompts[:1]:
        student.invoke(list(messages), temperature=0.0, max_tokens=1)


def _canary(student: BaseChatModel, folder: Path, prompts: Sequence[Sequence[BaseMessage]]) -> None:
    if isinstance(student, Swappable):
        check_golden(student, read_golden(folder), folder)
    for messages in prompts:
        reply = student.invoke(list(messages), temperature=0.0, max_tokens=TRIAL_TOKENS)
        if not reply.text.strip():
            raise AdapterError("the student says nothing to a trial prompt", where=folder, fix="train it longer")


def _drained(slot: ModelSlot, report: SwapReport, timeout: float, tell: OnPhase) -> SwapReport:
    before, start = set(slot.loaded), time.perf_counter()
    tell("drain", report.before)
    drained = slot.drain(timeout)
    for gone in sorted(before - set(slot.loaded)):
        tell("unload", gone)
    if not drained:
        LOG.warning("runs still use %s after %g s: it stays loaded", report.before, timeout)
    seconds: dict[Phase, float] = {**report.seconds, "drain": time.perf_counter() - start}
    return report.model_copy(update={"drained": drained, "seconds": seconds})

