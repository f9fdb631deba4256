"""Text to token ids with content and control kept apart: what a text says can never become what a template means."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

BLANKS = " \t\r\n▁"
"""Tokens of these alone steer nothing, even where a tokenizer lists them among its added ones."""

KEPT = 1024
"""Texts whose ids a codec keeps: the passages of the runs under way, with the template's few pieces."""


@dataclass(frozen=True, slots=True)
class Codec:
    """A tokenizer and what must be known of it. `Codec.of` makes one for every tokenizer, and another when tokens are
    added to it."""

    ids_of: Callable[[str], tuple[int, ...]]
    """The tokenizer's own ids of a text. Kept, because every step shows the passages of all steps before it again."""
    pattern: re.Pattern[str] | None
    """Finds the text of every control token."""
    control: frozenset[int]
    anchor: str
    """A control token put before a text and dropped again: without it, tokenizers in SentencePiece's way would begin
    every block with a space of their own. Empty for other tokenizers."""

    @classmethod
    def of(cls, tokenizer: Any) -> Codec:
        return _codec(tokenizer, tuple(tokenizer.added_tokens_decoder.items()), tokenizer.unk_token_id)

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
        return list(self.ids_of(text)) if text else []


@lru_cache(maxsize=4)
def _codec(tokenizer: Any, added: tuple[tuple[int, Any], ...], unknown: int | None) -> Codec:
    """Kept for the tokenizers in use; more would keep big vocabularies in memory that nobody needs."""
    control = {token: str(one.content) for token, one in added if len(one.content.strip(BLANKS)) > 1}
    firm = (one.content for token, one in added if token in control and one.special and not one.rstrip)

    @lru_cache(maxsize=KEPT)
    def ids_of(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text, add_special_tokens=False))

    # An unknown letter becomes its token by right.
    return Codec(ids_of, _pattern(control.values()), frozenset(control) - {unknown}, _anchor(ids_of, next(firm, "")))


def _pattern(tokens: Iterable[str]) -> re.Pattern[str] | None:
    """The longest first, so that of `<|a|>` and `<|a|>b` the whole is seen."""
    cores = sorted({token.strip(BLANKS) for token in tokens}, key=lambda core: (-len(core), core))
    return re.compile("|".join(map(re.escape, cores))) if cores else None


def _anchor(ids_of: Callable[[str], tuple[int, ...]], token: str) -> str:
    if not token:
        return ""
    alone, behind = ids_of("a"), ids_of(f"{token}a")
    return token if len(behind) > 1 and behind[1:] != alone else ""
