"""One request to a server, however often the line breaks: what to ask for next, and what the chunks that came amount to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from steper_agent.errors import ModelError
from steper_agent.models.decoding import Done, Event, Piece, Request, Row, Ticket, TokenChance, fitted
from steper_agent.models.loading import Vocabulary

WHOLE = 256
"""Tokens up to which a reply that nobody reads along is fetched in one piece, which takes the server and us a third of the work.
A longer one is streamed all the same: should it break off, it goes on where it was."""


class Answer:
    """Token ids become text here and not in the server, exactly as they do for a model in this process."""

    def __init__(self, request: Request, model: str, vocabulary: Vocabulary, where: object) -> None:
        self._request = fitted(request, vocabulary, where)
        self._model = model
        self._where = where
        self._ends = vocabulary.ends
        self._told: list[Event] = []
        self._row = Row(Ticket(self._request, self._told.append), vocabulary.tokenizer, vocabulary.ends)
        self._done: Done | None = None
        self._scores: tuple[TokenChance, ...] = ()
        self.prompt_ids: tuple[int, ...] = ()
        """What the server says it was sent."""

    @property
    def is_complete(self) -> bool:
        """Nothing more is to be asked for."""
        return self._row.done

    @property
    def ids(self) -> list[int]:
        """The prompt and what was received."""
        return [*self._request.prompt, *self._row.ids]

    @property
    def length(self) -> int:
        """Tokens received."""
        return len(self._row.ids)

    def body(self) -> dict[str, Any]:
        """The request that brings what is missing: after a break it goes on behind the tokens that came.

        Raises:
            ModelError: the text must follow a schema, whose grammar no server takes up in the middle.
        """
        asked = self._request
        if asked.schema and self.length:
            raise ModelError("the line broke in the middle of a reply that follows a schema", where=self._where, fix="ask again")
        body: dict[str, Any] = {
            "model": self._model, "prompt": self.ids, "max_tokens": asked.max_tokens - self.length,
            "temperature": asked.temperature, "top_p": asked.top_p, "seed": asked.seed, "stop": list(asked.stop),
            "stop_token_ids": sorted(self._ends), "return_token_ids": True, "skip_special_tokens": False, "add_special_tokens": False,
        }  # fmt: skip
        if not asked.scored and (not asked.whole or asked.max_tokens > WHOLE):
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if asked.scored:
            # A server writes a token at the least; nobody asks what it is.
            body["prompt_logprobs"] = asked.logprobs
        elif asked.logprobs is not None:
            body |= {"logprobs": asked.logprobs, "return_tokens_as_token_ids": True}
        if asked.schema:
            body["structured_outputs"] = {"json": json.loads(asked.schema)}
        return body

    def read(self, chunk: Mapping[str, Any]) -> list[Piece]:
        """The text that a chunk makes certain."""
        if usage := chunk.get("usage"):
            # Only the first try tells what was there before the request; later ones find its own tokens.
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
            self._row.cached = cached if self._row.cached is None else self._row.cached
        for choice in chunk.get("choices", ()):
            self.prompt_ids = self.prompt_ids or tuple(choice.get("prompt_token_ids") or ())
            if self._request.scored:
                self._scores = _scores(choice, self._request)
            ids = choice.get("token_ids") or []
            for token, chance in zip(ids, _chances(choice, len(ids), self._request.logprobs), strict=True):
                self._row.take(token, chance)
            if choice.get("finish_reason"):
                self._row.finish("length" if choice["finish_reason"] == "length" else "stop")
        pieces = [event for event in self._told if isinstance(event, Piece)]
        self._done = next((event for event in self._told if isinstance(event, Done)), self._done)
        self._told.clear()
        return pieces

    def done(self) -> Done:
        """How it ended; what the last chunk told of the cache included."""
        assert self._done is not None
        if self._request.scored:
            return Done((), "length", self._scores, self._row.cached)
        return Done(self._done.output_ids, self._done.finish_reason, self._done.chances, self._row.cached)


def _chances(choice: Mapping[str, Any], count: int, top: int | None) -> list[TokenChance | None]:
    told = choice.get("logprobs")
    if not told:
        return [None] * count
    return [
        TokenChance(_id(token), logprob, _likeliest({_id(name): value for name, value in (likely or {}).items()}, top))
        for token, logprob, likely in zip(told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True)
    ]


def _scores(choice: Mapping[str, Any], asked: Request) -> tuple[TokenChance, ...]:
    told = (choice.get("prompt_logprobs") or ())[-asked.scored :]
    places = [{int(token): float(at["logprob"]) for token, at in place.items()} for place in told]
    return tuple(
        TokenChance(token, place[token], _likeliest(place, asked.logprobs))
        for token, place in zip(asked.prompt[-asked.scored :], places, strict=True)
    )


def _likeliest(place: Mapping[int, float], top: int | None) -> tuple[tuple[int, float], ...]:
    """A server tells the token that stands there even if it is none of the likeliest."""
    return tuple(sorted(place.items(), key=lambda one: -one[1])[:top])


def _id(token: str) -> int:
    """vLLM writes `token_id:7` where it is asked for ids."""
    return int(token.removeprefix("token_id:"))
