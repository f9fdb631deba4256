"""One run of the graph as the door tells it: what happens, what the model writes as it writes it, and how it ended."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, NamedTuple

from graphs.serving.wire import Account, Found, Reasoned, Spent
from graphs.state import Context, Input
from graphs.stepwise import StepwiseGraph
from graphs.story import is_ours
from steper_agent.errors import ConfigError, StepERError
from steper_agent.plain import plain
from steper_agent.web.refusal import Refusal

LOG = logging.getLogger(__name__)


class Written(NamedTuple):
    """More of the reasoning."""

    text: str


class Happened(NamedTuple):
    """A question rewritten, a query, its hits, or a rationale that is complete: as the graph tells it."""

    event: Mapping[str, Any]


class Computed(NamedTuple):
    """What a node's model calls cost; for operators, not for clients."""

    node: str
    step: int
    prompt_tokens: int
    cached_tokens: int | None


class Ended(NamedTuple):
    """Always the last."""

    answer: str
    reasoning: str
    """The rationales, one a line."""
    account: Account
    usage: Spent


Event = Written | Happened | Computed | Ended


async def told(graph: StepwiseGraph, given: Input, context: Context) -> AsyncGenerator[Event, None]:
    """The events of one run; whoever stops listening, or is cancelled, ends the run and gives its model back.

    Raises:
        Refusal: the run failed. What the client is told of it names no path and no provider's words; the log has them.
    """
    reasoning, usage, state = Reasoning(), Tokens(), dict[str, Any]()
    try:
        running: Any = graph.astream(given, context=context, stream_mode=["custom", "messages", "values"])
        async with aclosing(running):
            async for mode, payload in running:
                if mode == "values":
                    state = payload
                elif mode == "messages":
                    message, about = payload
                    usage.add(message)
                    if about["langgraph_node"] == "reason" and (text := reasoning.more(message.text, message.id)):
                        yield Written(text)
                else:
                    for event in _happenings(payload, reasoning):
                        yield event
        if not state.get("stop"):
            raise ConfigError("a tool asks a person, and nobody can answer an interrupt over HTTP", where="Context(tools=…)",
                              fix="serve it without tools that interrupt")
        yield Ended(state["answer"], reasoning.whole, account_of(state), usage.spent)
    except StepERError as bad:
        LOG.warning("run %s failed: %s: %s", given["run"], type(bad).__name__, plain(str(bad)))
        raise Refusal(500, bad.what, code=type(bad).__name__) from bad
    except TimeoutError as late:
        LOG.warning("run %s ran out of time", given["run"])
        raise Refusal(504, "the model or the search took too long", code="timeout") from late
    except Exception as bad:
        # Any provider's client may raise anything; the node that failed is in the journal, with what it said.
        LOG.warning("run %s failed: %s: %s", given["run"], type(bad).__name__, plain(str(bad)))
        raise Refusal(502, f"the run failed: {type(bad).__name__}", code="run_failed") from bad
    finally:
        # A node gives the lease back when it is cancelled; between two nodes nobody else would.
        context.release(given["run"])


def _happenings(event: Any, reasoning: Reasoning) -> list[Event]:
    if not is_ours(event):
        return []
    if event["event"] == "rationale":
        rest = reasoning.close(event["rationale"])
        return [*([Written(rest)] if rest else []), Happened(event)]
    if event["event"] == "usage":
        return [Computed(event["node"], event["step"], event["prompt_tokens"], event["cached_tokens"])]
    # The graph's own `answer` says less than the end does, a moment later.
    return [] if event["event"] == "answer" else [Happened(event)]


class Reasoning:
    """The reasoning as one growing text, a line a step, however a model breaks or pads what it writes."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._raw = ""
        self._shown = ""
        self._message: str | None = None
        self.has_begun = False
        """Whether anything was shown."""

    def more(self, text: str, message: str | None) -> str:
        """What another token adds to what is shown; space at a line's end waits for what follows it."""
        # A reply that could not be read is asked for once more: that is another message in the same step.
        self._raw += text if message == self._message or not self._raw else f"\n{text}"
        self._message = message
        return self._show(self._raw.strip())

    def close(self, rationale: str) -> str:
        """The step has reasoned. What a journal recalled was never written token by token: it is shown now."""
        rest = "" if self._shown else self._show(rationale)
        self._lines += [rationale] if rationale else []
        self._raw = self._shown = ""
        return rest

    @property
    def whole(self) -> str:
        return "\n".join(self._lines)

    def _show(self, text: str) -> str:
        added = text[len(self._shown) :]
        lead = "\n" if added and not self._shown and self.has_begun else ""
        self._shown = text
        self.has_begun = self.has_begun or bool(added)
        return lead + added


class Tokens:
    """Adds up what a model says about its usage, chunk by chunk."""

    def __init__(self) -> None:
        self._given = self._made = 0

    def add(self, message: Any) -> None:
        usage = getattr(message, "usage_metadata", None)
        if usage:
            self._given += usage["input_tokens"]
            self._made += usage["output_tokens"]

    @property
    def spent(self) -> Spent:
        return Spent(prompt_tokens=self._given, completion_tokens=self._made, total_tokens=self._given + self._made)


def account_of(state: Mapping[str, Any]) -> Account:
    """How the answer of a finished state came about."""
    steps = tuple(
        Reasoned(query=step["query"], rationale=step["rationale"], passages=tuple(Found(**one) for one in step["passages"]))
        for step in state["evidence"]
    )
    return Account(question=state["question"], stop=state["stop"], supported=state["supported"], model=state["model"], steps=steps)
