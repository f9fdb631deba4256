"""One request's life inside the engine: ids become text piece by piece, a stop string or an end token closes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from steper_agent.errors import ModelError, StepERError

WINDOW = 6
"""Prompt tokens decoded along with the first new ones: some tokenizers drop a leading space without them."""


@dataclass(frozen=True, slots=True)
class Request:
    prompt: tuple[int, ...]
    adapter: str | None = None
    """Name given by `Engine.load_adapter`; None is the base."""
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    """The text ends before the first of these."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    output_ids: tuple[int, ...]
    """All tokens generated: those that hold the stop string, and the end token, included."""
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Failed:
    error: StepERError


Event = Piece | Done | Failed


class Ticket:
    """A request in the queue; `tell` is called from the engine's thread."""

    def __init__(self, request: Request, tell: Callable[[Event], None]) -> None:
        self.request = request
        self.tell = tell
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        """Nobody listens any more; the engine stops working on it at its next token."""
        self.cancelled.set()


class TextStream:
    """Token ids in, text out as soon as it is certain: whole characters, and no beginning of a stop string."""

    def __init__(self, tokenizer: Any, prompt: Sequence[int], stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._ids = list(prompt[-WINDOW:])
        self._from, self._read = 0, len(self._ids)
        self._stop = [text for text in stop if text]
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """The text this token makes certain; sets `stopped` where a stop string is complete."""
        self._ids.append(token)
        return self._release(self._decode(whole=True))

    def close(self) -> str:
        """What was held back; no more tokens come."""
        text = "" if self.stopped else self._release(self._decode(whole=False)) + self._held
        self._held = ""
        return text

    def _decode(self, *, whole: bool) -> str:
        known = self._text(self._ids[self._from : self._read])
        text = self._text(self._ids[self._from :])
        if len(text) <= len(known) or (whole and text.endswith("\ufffd")):
            return ""
        self._from, self._read = self._read, len(self._ids)
        return text[len(known) :]

    def _text(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _release(self, new: str) -> str:
        self._held += new
        ends = [at for at in (self._held.find(stop) for stop in self._stop) if at >= 0]
        if ends:
            self.stopped = True
            keep = self._held[: min(ends)]
            self._held = ""
            return keep
        cut = len(self._held) - self._undecided()
        free, self._held = self._held[:cut], self._held[cut:]
        return free

    def _undecided(self) -> int:
        """Length of the longest end of the text held that begins a stop string."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stop):
                return length
        return 0


class Row:
    """One request in the batch that is running."""

    def __init__(self, ticket: Ticket, tokenizer: Any, ends: frozenset[int]) -> None:
        self.ticket = ticket
        self.done = False
        self._ends = ends
        self._ids: list[int] = []
        self._text = TextStream(tokenizer, ticket.request.prompt, ticket.request.stop)

    def take(self, token: int) -> None:
        """One more token; tells the requester what it means, and closes the row at its end."""
        if self.done:
            return
        if self.ticket.cancelled.is_set():
            self.done = True
            return
        self._ids.append(token)
        if token in self._ends:
            self._finish("stop")
            return
        text = self._text.push(token)
        if text:
            self.ticket.tell(Piece(text))
        if self._text.stopped:
            self._finish("stop")
        elif len(self._ids) >= self.ticket.request.max_tokens:
            self._finish("length")

    def fail(self, error: StepERError) -> None:
        if not self.done:
            self.done = True
            self.ticket.tell(Failed(error))

    def _finish(self, reason: Literal["stop", "length"]) -> None:
        self.done = True
        rest = self._text.close()
        if rest:
            self.ticket.tell(Piece(rest))
        self.ticket.tell(Done(tuple(self._ids), reason))


class Follow:
    """Stopping criterion of `generate`: hands each new token to its row, says which rows are done."""

    def __init__(self, rows: Sequence[Row], stopping: threading.Event) -> None:
        self._rows = rows
        self._stopping = stopping

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:  # noqa: ARG002 - transformers' signature
        import torch

        for row, token in zip(self._rows, input_ids[:, -1].tolist(), strict=True):
            row.take(token)
        over = self._stopping.is_set()
        return torch.tensor([row.done or over for row in self._rows], device=input_ids.device)


class Choose:
    """Logits processor that draws the next token itself, from its own generator, and leaves only that one: the draw
    cannot be disturbed by whatever else uses the process's random numbers."""

    def __init__(self, request: Request, device: Any) -> None:
        import torch

        self._temperature, self._top_p = request.temperature, request.top_p
        self._generator = torch.Generator(device=device).manual_seed(request.seed)

    def __call__(self, input_ids: Any, scores: Any) -> Any:  # noqa: ARG002 - transformers' signature
        import torch

        chances = torch.softmax(scores.float() / self._temperature, dim=-1)
        if self._top_p < 1.0:
            ordered, places = chances.sort(dim=-1, descending=True, stable=True)
            # A token stays if those before it do not fill top_p yet, so the most likely one always stays.
            ordered = ordered.masked_fill(ordered.cumsum(dim=-1) - ordered >= self._top_p, 0.0)
            chances = torch.zeros_like(chances).scatter(-1, places, ordered)
        chosen = torch.multinomial(chances, 1, generator=self._generator)
        return torch.full_like(scores, float("-inf")).scatter(-1, chosen, 0.0)


def refuse_nan(input_ids: Any, scores: Any) -> Any:  # noqa: ARG001 - transformers' signature
    """Logits processor: broken weights are an error, never the token that happens to come first."""
    if bool(scores.isnan().any()):
        raise ModelError("the model computes NaN", where="logits", fix="check the weights, or load them in float32")
    return scores
