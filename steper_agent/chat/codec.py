"""Text to token ids with content and control kept apart: what a text says can never become what a template means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

BLANKS = " \t\r\n▁"
"""Tokens of these alone steer nothing, even where a tokenizer lists them among its added ones."""


@dataclass(frozen=True, slots=True)
class Codec:
    """A tokenizer and what must be known of it; `Codec.of` costs a fraction of a millisecond, so make one a prompt."""

    tokenizer: Any
    pattern: re.Pattern[str] | None
    """Finds the text of every control token."""
    control: frozenset[int]
    anchor: str
    """A control token put before a text and dropped again: without it, tokenizers in SentencePiece's way would begin
    every block with a space of their own. Empty for other tokenizers."""

    @classmethod
    def of(cls, tokenizer: Any) -> Codec:
        added = tokenizer.added_tokens_decoder
        control = {token: str(one.content) for token, one in added.items() if len(one.content.strip(BLANKS)) > 1}
        firm = (one.content for token, one in added.items() if token in control and one.special and not one.rstrip)
        return cls(
            tokenizer,
            _pattern(tuple(control.values())),
            # An unknown letter becomes this token by right.
            frozenset(control) - {tokenizer.unk_token_id},
            _anchor(tokenizer, next(firm, "")),
        )

    def encode(self, text: str) -> list[int]:
        """Ids of content: whole words, no control token."""
        text = self.defuse(text)
        ids = self._inside(text)
        if self.control.isdisjoint(ids):
            return ids
        # The tokenizer spells a control token out of other letters (NFKC does); one letter at a time, nothing can.
        return [token for letter in text for token in self._inside(letter)]

    def markup(self, text: str, *, first: bool = False) -> list[int]:
        """Ids of our own or the template's text, control tokens recognised; `first`: it opens the prompt."""
        return self._plainly(text) if first else self._inside(text)

    def defuse(self, text: str) -> str:
        """A space behind the first letter of every control token spelt out."""
        if self.pattern is None:
            return text
        # Breaking one up may leave another that overlapped it.
        while (broken := self.pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)) != text:
            text = broken
        return text

    def _inside(self, text: str) -> list[int]:
        return self._plainly(self.anchor + text)[1:] if self.anchor and text else self._plainly(text)

    def _plainly(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False)) if text else []


@lru_cache(maxsize=64)
def _pattern(tokens: tuple[str, ...]) -> re.Pattern[str] | None:
    """The longest first, so that of `<|a|>` and `<|a|>b` the whole is seen."""
    cores = sorted({token.strip(BLANKS) for token in tokens}, key=lambda core: (-len(core), core))
    return re.compile("|".join(map(re.escape, cores))) if cores else None


def _anchor(tokenizer: Any, token: str) -> str:
    if not token:
        return ""
    alone = tokenizer.encode("a", add_special_tokens=False)
    behind = tokenizer.encode(f"{token}a", add_special_tokens=False)
    return token if len(behind) > 1 and behind[1:] != alone else ""
