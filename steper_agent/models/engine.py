"""transformers in process: one thread owns the model, greedy requests that wait together are computed together, and
LoRA adapters come and go between batches."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from steper_agent.errors import ModelError, StepERError
from steper_agent.models.adapters import Adapters
from steper_agent.models.decoding import (
    Chances,
    Choose,
    Done,
    Event,
    Failed,
    Follow,
    Piece,
    Request,
    Row,
    Ticket,
    chance_of,
    fitted,
    refuse_nan,
)
from steper_agent.models.loading import open_base
from steper_agent.students.fingerprint import base_fingerprint

GATHER = 0.002
"""Seconds a greedy request waits for company; a token of the smallest model takes longer."""


class Call:
    """Work between two batches, on the thread that owns the model: loading and unloading adapters."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.result: Future[Any] = Future()


class Engine:
    """A model folder, loaded and ready.

    `max_batch` bounds the rows of a batch, `max_batch_tokens` the tokens of their padded prompts.
    """

    def __init__(
        self, path: str | Path, *, dtype: Any = None, device: Any = None, max_batch: int = 16,
        max_batch_tokens: int = 32_768,
    ) -> None:  # fmt: skip
        self.path = Path(path)
        self._model, self.vocabulary = open_base(path, dtype=dtype, device=device)
        self.tokenizer = self.vocabulary.tokenizer
        self.fingerprint = base_fingerprint(path)
        self._adapters = Adapters(self._model)
        self.shapes = self._adapters.shapes
        self._limits = (max_batch, max_batch_tokens)
        self._waiting: deque[Ticket | Call] = deque()
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"engine {self.path.name}", daemon=True)
        self._thread.start()

    def submit(self, request: Request, tell: Callable[[Event], None]) -> Ticket:
        """Queue a request. `tell` hears Pieces and at last Done, or Failed; after `cancel` it may hear nothing more."""
        ticket = Ticket(self._checked(request), tell)
        self._enqueue(ticket)
        return ticket

    def stream(self, request: Request) -> Iterator[Piece | Done]:
        """The events of a request as they come; closing the iterator cancels it."""
        events: SimpleQueue[Event] = SimpleQueue()
        ticket = self.submit(request, events.put)
        try:
            while True:
                event = events.get()
                if isinstance(event, Failed):
                    raise event.error
                yield event
                if isinstance(event, Done):
                    return
        finally:
            ticket.cancel()

    async def astream(self, request: Request) -> AsyncIterator[Piece | Done]:
        """As `stream`, without blocking the event loop; cancelling the task cancels the request."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()

        def tell(event: Event) -> None:
            with suppress(RuntimeError):  # the loop was closed: nobody listens
                loop.call_soon_threadsafe(events.put_nowait, event)

        ticket = self.submit(request, tell)
        try:
            while True:
                event = await events.get()
                if isinstance(event, Failed):
                    raise event.error
                yield event
                if isinstance(event, Done):
                    return
        finally:
            ticket.cancel()

    def load_adapter(self, folder: str | Path) -> str:
        """Load a LoRA adapter beside those already there; its name is the hash of its content. Loading it again only
        counts one more user."""
        return str(self._between(lambda: self._adapters.load(Path(folder))))

    def unload_adapter(self, name: str) -> None:
        """One user fewer; the last one frees it. Requests that still name it then fail."""
        self._between(lambda: self._adapters.unload(name))

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the adapters loaded now."""
        return self._adapters.names

    def close(self) -> None:
        """Stop the thread; what waits or runs fails with ModelError."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _checked(self, request: Request) -> Request:
        if request.schema:
            raise ModelError("a model in this process cannot be held to a JSON schema", where=self.path,
                             fix="serve it (vllm: instead of local:), or ask without response_format")  # fmt: skip
        return fitted(request, self.vocabulary, self.path)

    def _between(self, function: Callable[[], Any]) -> Any:
        call = Call(function)
        self._enqueue(call)
        return call.result.result()

    def _enqueue(self, job: Ticket | Call) -> None:
        with self._changed:
            if self._closed.is_set():
                raise self._gone()
            self._waiting.append(job)
            self._changed.notify_all()

    def _gone(self) -> ModelError:
        return ModelError("the engine is closed", where=self.path, fix="open the model again")

    def _work(self) -> None:
        try:
            while (job := self._next()) is not None:
                if isinstance(job, Call):
                    _settle(job)
                else:
                    self._generate(job)
        finally:
            self._closed.set()
            with self._changed:
                left = list(self._waiting)
                self._waiting.clear()
            for waiting in left:
                _refuse(waiting, self._gone())

    def _next(self) -> Call | list[Ticket] | None:
        """The job at the head of the queue, with the company it may have; None when the engine closes."""
        with self._changed:
            while not self._waiting and not self._closed.is_set():
                self._changed.wait()
            if self._closed.is_set():
                return None
            deadline = time.monotonic() + GATHER
            while isinstance(self._waiting[0], Ticket) and len(self._waiting) < self._limits[0]:
                left = deadline - time.monotonic()
                if left <= 0 or self._closed.is_set():
                    break
                self._changed.wait(left)
            head = self._waiting.popleft()
            if isinstance(head, Call):
                return head
            batch = choose_batch(head, [job for job in self._waiting if isinstance(job, Ticket)], *self._limits)
            for ticket in batch[1:]:
                self._waiting.remove(ticket)
            return batch

    def _generate(self, tickets: list[Ticket]) -> None:
        rows = [Row(ticket, self.tokenizer, self.vocabulary.ends) for ticket in tickets if not ticket.cancelled.is_set()]
        if not rows:
            return
        try:
            with self._adapters.using(rows[0].ticket.request.adapter):
                if rows[0].ticket.request.scored:
                    self._score(rows[0].ticket)
                    return
                self._run(rows)
            error: StepERError = self._gone()
        except StepERError as known:
            error = known
        except Exception as fault:
            # Whatever third-party code raises ends this batch, never the engine: others wait for it.
            error = ModelError(f"generation failed: {type(fault).__name__}: {fault}", where=self.path,
                               fix="if memory ran out: shorter prompts, a smaller max_batch or model")  # fmt: skip
            error.__cause__ = fault
        for row in rows:
            row.fail(error)

    def _score(self, ticket: Ticket) -> None:
        import torch

        request = ticket.request
        ids = torch.tensor([request.prompt], device=self._model.device)
        with torch.inference_mode():
            logits = self._model(input_ids=ids, use_cache=False, logits_to_keep=request.scored + 1).logits[0, :-1]
            logs = refuse_nan(ids, logits).float().log_softmax(dim=-1)
        said = request.prompt[-request.scored :]
        chances = tuple(chance_of(at, token, request.logprobs or 0) for at, token in zip(logs, said, strict=True))
        ticket.tell(Done((), "length", chances))

    def _run(self, rows: list[Row]) -> None:
        import torch
        from transformers import GenerationConfig

        settings: Any = GenerationConfig
        requests = [row.ticket.request for row in rows]
        longest = max(len(request.prompt) for request in requests)
        device = self._model.device
        ids = torch.full((len(rows), longest), self.vocabulary.pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for at, request in enumerate(requests):
            ids[at, longest - len(request.prompt) :] = torch.tensor(request.prompt)
            mask[at, longest - len(request.prompt) :] = 1
        chances = Chances(rows)
        processors: list[Any] = [refuse_nan, chances]
        if requests[0].temperature > 0:
            processors.append(Choose(requests[0], device))
        self._model.generate(
            inputs=ids.to(device),
            attention_mask=mask.to(device),
            generation_config=settings(
                max_new_tokens=max(request.max_tokens for request in requests), do_sample=False, pad_token_id=self.vocabulary.pad,
                use_cache=True,
            ),
            logits_processor=processors,
            stopping_criteria=[Follow(rows, chances, self._closed)],
        )  # fmt: skip


def choose_batch(head: Ticket, waiting: Sequence[Ticket], max_batch: int, max_tokens: int) -> list[Ticket]:
    """The head of the queue and those that may run with it: greedy, same adapter, a prompt of like length.

    A sampled request runs alone: floating point sums depend on the batch, and equal seeds must give equal text. So does one
    that is scored, for it writes nothing.
    """
    if head.request.temperature > 0 or head.request.scored:
        return [head]
    length = len(head.request.prompt)
    near = [
        ticket for ticket in waiting
        if ticket.request.temperature == 0 and not ticket.request.scored and ticket.request.adapter == head.request.adapter
        and length <= 2 * len(ticket.request.prompt) + 64 and len(ticket.request.prompt) <= 2 * length + 64
    ]  # fmt: skip
    batch = [head]
    for ticket in sorted(near, key=lambda ticket: abs(len(ticket.request.prompt) - length)):
        longest = max(len(member.request.prompt) for member in [*batch, ticket])
        if len(batch) == max_batch or longest * (len(batch) + 1) > max_tokens:
            break
        batch.append(ticket)
    return batch


def _settle(call: Call) -> None:
    try:
        call.result.set_result(call.function())
    except Exception as fault:
        call.result.set_exception(fault)  # Told to whoever waits; the thread goes on for the others.


def _refuse(job: Ticket | Call, error: ModelError) -> None:
    if isinstance(job, Call):
        job.result.set_exception(error)
    else:
        job.tell(Failed(error))
