"""The response that is a run: it holds a place at the gate, tells the run as it goes, and ends with it or with the client."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from graphs.serving.door import Door
from graphs.serving.events import Computed, Ended, told
from graphs.serving.refusal import error_object
from graphs.serving.reply import DONE, Reply, server_sent, to_json
from graphs.serving.wire import ChatRequest, conversation_of
from graphs.state import Input
from steper_agent.web.refusal import Refusal

STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"),
                  (b"x-accel-buffering", b"no")]  # fmt: skip


class Answering(Response):
    """Made from a request that can be answered; everything wrong with one is refused before there is any cost."""

    def __init__(self, door: Door, request: ChatRequest) -> None:
        super().__init__()
        question, history = conversation_of(request)
        self._door = door
        self._request = request
        self._context = door.context_for(request.steper)
        self._given = Input(question=question, history=history, run=uuid.uuid4().hex)
        self._reply = Reply(f"chatcmpl-{self._given['run']}", request.model, int(time.time()))
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gate = self._door.gate
        try:
            with gate.entered():
                ended = await gate.listening(receive, self._run(send))
        except Refusal as refusal:
            if not self._begun:
                raise
            await self._stream(send, server_sent(error_object(refusal)), is_last=True)
            return
        # The last bytes are sent from outside the gate: a client that has them may come straight back.
        if ended is None:
            return
        if self._request.stream:
            last = self._reply.closing(ended, with_usage=self._request.wants_usage)
            await self._stream(send, server_sent(*last) + DONE, is_last=True)
        else:
            await Response(to_json(self._reply.whole(ended)), media_type="application/json")(scope, receive, send)

    async def _run(self, send: Send) -> Ended:
        start, metrics = time.perf_counter(), self._door.metrics
        try:
            async with aclosing(told(self._door.graph, self._given, self._context)) as events:
                async for event in events:
                    metrics.saw(event)
                    if isinstance(event, Ended):
                        ended = event
                    elif self._request.stream and not isinstance(event, Computed):
                        await self._stream(send, server_sent(self._reply.going(event)))
        except (asyncio.CancelledError, Refusal) as end:
            metrics.stopped("error" if isinstance(end, Refusal) else "cancelled", time.perf_counter() - start)
            raise
        metrics.answered(ended, time.perf_counter() - start)
        return ended

    async def _stream(self, send: Send, body: bytes, *, is_last: bool = False) -> None:
        """The head goes out with the first bytes, so that a run which fails at once is still told by its status."""
        if not self._begun:
            self._begun = True
            await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
            body = server_sent(self._reply.opening()) + body
        await send({"type": "http.response.body", "body": body, "more_body": not is_last})
