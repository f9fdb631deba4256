"""One request's life inside the engine: ids become text piece by piece, a stop string or an end token closes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from steper_agent.errors import ModelError, StepERError
from steper_agent.models.loading import Vocabulary

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
    logprobs: int | None = None
    """None asks for none; n for those of the tokens written and of the n likeliest in the place of each."""
    schema: str = ""
    """JSON schema that the text must follow, where the source can hold a model to one."""
    whole: bool = False
    """Nobody reads along, so the text may come in one piece."""
    scored: int = 0
    """If not 0, nothing is written: so many tokens at the prompt's end are what `logprobs` is told of. At least one token must
    stand before them."""


@dataclass(frozen=True, slots=True)
class TokenChance:
    """Log-probabilities where a token was written: natural logarithms, before temperature and top_p."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens there, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Piece:
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    output_ids: tuple[int, ...]
    """All tokens generated: those that hold the stop string, and the end token, included."""
    finish_reason: Literal["stop", "length"]
    chances: tuple[TokenChance, ...] = ()
    """One a token generated, or scored, where the request asked for them."""
    cached: int | None = None
    """Prompt tokens the source had computed before; None where it keeps no count."""


@dataclass(frozen=True, slots=True)
class Failed:
    error: StepERError


Event = Piece | Done | Failed


def fitted(request: Request, vocabulary: Vocabulary, where: object) -> Request:
    """The request as it can be answered: the answer gets at most the room that the prompt leaves in the window.

    Raises:
        ModelError: there is nothing to do, the prompt does not fit, or a setting or token is none of this model's.
    """
    prompt, window = len(request.prompt), vocabulary.window
    if not prompt or request.max_tokens < 1:
        raise ModelError(f"{prompt} prompt tokens and max_tokens={request.max_tokens}: nothing to do", where=where,
                         fix="give a prompt, and max_tokens of at least 1")  # fmt: skip
    if not 0 <= request.scored < prompt:
        raise ModelError(f"{request.scored} of {prompt} tokens are to be scored", where=where, fix="give a prompt before them")
    if request.temperature < 0 or not 0 < request.top_p <= 1:
        raise ModelError(f"temperature={request.temperature}, top_p={request.top_p}", where=where,
                         fix="temperature is at least 0; top_p is above 0 and at most 1")  # fmt: skip
    if max(request.prompt) >= vocabulary.size:
        raise ModelError(f"token {max(request.prompt)} is beyond the model's {vocabulary.size} embeddings", where=where,
                         fix="use the tokenizer this model was trained with")  # fmt: skip
    if window is None or prompt + request.max_tokens <= window:
        return request
    if request.scored and prompt == window:
        # An engine scores a prompt on its way to a token of its own, which needs a place: the last token goes unscored.
        return replace(request, prompt=request.prompt[:-1], scored=request.scored - 1)
    if prompt >= window:
        raise ModelError(f"the prompt has {prompt} tokens, the model's window is {window}", where=where,
                         fix="ask for fewer passages or steps, or use a model with a larger window")  # fmt: skip
    return replace(request, max_tokens=window - prompt)


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
        self.ids: list[int] = []
        """Generated so far."""
        self.cached: int | None = None
        self._chances: list[TokenChance] = []
        self._text = TextStream(tokenizer, ticket.request.prompt, ticket.request.stop)

    def take(self, token: int, chance: TokenChance | None = None) -> None:
        """One more token; tells the requester what it means, and closes the row at its end."""
        if self.done:
            return
        if self.ticket.cancelled.is_set():
            self.done = True
            return
        self.ids.append(token)
        if chance is not None:
            self._chances.append(chance)
        if token in self._ends:
            self.finish("stop")
            return
        text = self._text.push(token)
        if text:
            self.ticket.tell(Piece(text))
        if self._text.stopped:
            self.finish("stop")
        elif len(self.ids) >= self.ticket.request.max_tokens:
            self.finish("length")

    def fail(self, error: StepERError) -> None:
        if not self.done:
            self.done = True
            self.ticket.tell(Failed(error))

    def finish(self, reason: Literal["stop", "length"]) -> None:
        """No more tokens come."""
        if self.done:
            return
        self.done = True
        rest = self._text.close()
        if rest:
            self.ticket.tell(Piece(rest))
        self.ticket.tell(Done(tuple(self.ids), reason, tuple(self._chances), self.cached))


class Chances:
    """Logits processor that changes nothing: it notes how likely every token is, for the rows that want to know."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._wanted = {at: row.ticket.request.logprobs or 0 for at, row in enumerate(rows)
                        if row.ticket.request.logprobs is not None}  # fmt: skip
        self._logs: Any = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:  # noqa: ARG002 - transformers' signature
        if self._wanted:
            self._logs = scores.float().log_softmax(dim=-1)
        return scores

    def of(self, row: int, token: int) -> TokenChance | None:
        """Of the token just chosen in this row."""
        if row not in self._wanted:
            return None
        return chance_of(self._logs[row], token, self._wanted[row])


def chance_of(logs: Any, token: int, top: int) -> TokenChance:
    """Of one place: `logs` is a tensor of every token's log-probability there."""
    likeliest = logs.topk(min(top, len(logs)))
    return TokenChance(token, float(logs[token]), tuple(zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)))


class Follow:
    """Stopping criterion of `generate`: hands each new token to its row, says which rows are done."""

    def __init__(self, rows: Sequence[Row], chances: Chances, stopping: threading.Event) -> None:
        self._rows = rows
        self._chances = chances
        self._stopping = stopping

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:  # noqa: ARG002 - transformers' signature
        import torch

        for at, (row, token) in enumerate(zip(self._rows, input_ids[:, -1].tolist(), strict=True)):
            row.take(token, self._chances.of(at, token))
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
