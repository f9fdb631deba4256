"""Long text cut into passages: whole paragraphs packed up to a size, longer ones cut at the ends of sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Self

from pydantic import model_validator

from steper_agent.errors import ConfigError
from steper_agent.records import Record

_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_SENTENCE_END = re.compile(r"[.!?]\s")
_BREAK = "\n\n"
"""Between the paragraphs of a passage."""


class Chunking(Record):
    """How documents are cut; records that are passages already are not.

    Raises:
        ConfigError: a size below 1, or an overlap that is not smaller than the size.
    """

    chars: int = 1000
    """Most characters of a passage."""
    overlap: int = 0
    """Most characters of a passage that the next one says again: as many of its last sentences as fit, whole."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.chars < 1:
            raise ConfigError(f"chars is {self.chars}", where="chunking", fix="give at least 1 character")
        if not 0 <= self.overlap < self.chars:
            raise ConfigError(
                f"overlap is {self.overlap}, chars {self.chars}",
                where="chunking",
                fix="give an overlap of 0 to chars - 1",
            )
        return self


DEFAULT = Chunking()


class Chunk(NamedTuple):
    text: str
    begins: int
    """Characters of the whole text before it."""


class _Span(NamedTuple):
    begins: int
    ends: int


def chunks(text: str, chunking: Chunking = DEFAULT) -> Iterator[Chunk]:
    """The text in pieces of at most `chunking.chars` characters, in order; its lines must end in a bare line feed."""
    size, overlap = chunking.chars, chunking.overlap
    pack: list[_Span] = []
    for piece in _pieces(text, max(1, size - overlap - len(_BREAK)) if overlap else size):
        longer = _joined(pack, piece, text) if overlap else [*pack, piece]
        if _length(longer) > size:
            yield _chunk(pack, text)
            longer = _joined(_tail(pack, text, overlap), piece, text)
            if _length(longer) > size:
                longer = [piece]
        pack = longer
    if pack:
        yield _chunk(pack, text)


def _pieces(text: str, size: int) -> Iterator[_Span]:
    """The paragraphs; one that is too long is cut at the last sentence end that fits, else at the last space, else where
    it must be."""
    begins = 0
    for ends in (*(found.span() for found in _BLANK_LINE.finditer(text)), (len(text), len(text))):
        span, begins = _stripped(text, begins, ends[0]), ends[1]
        while span.ends - span.begins > size:
            window = text[span.begins : span.begins + size + 1]
            found = [found.end() for found in _SENTENCE_END.finditer(window)]
            cut = found[-1] if found else window.rfind(" ")
            cut = span.begins + (min(cut, size) if cut > 0 else size)
            yield _stripped(text, span.begins, cut)
            span = _stripped(text, cut, span.ends)
        if span.ends > span.begins:
            yield span


def _stripped(text: str, begins: int, ends: int) -> _Span:
    # Sign by sign: to copy what is left of a paragraph for every piece of it takes minutes where it has megabytes.
    while begins < ends and text[begins].isspace():
        begins += 1
    while begins < ends and text[ends - 1].isspace():
        ends -= 1
    return _Span(begins, ends)


def _joined(pack: list[_Span], piece: _Span, text: str) -> list[_Span]:
    """The pack and one more piece; where both are of one paragraph, without a break between them."""
    if pack and not _BLANK_LINE.search(text, pack[-1].ends, piece.begins):
        return [*pack[:-1], _Span(pack[-1].begins, piece.ends)]
    return [*pack, piece]


def _tail(pack: list[_Span], text: str, most: int) -> list[_Span]:
    """The last sentences of a pack, as many as have room in `most` characters, but never the whole pack."""
    tail: list[_Span] = []
    for at in range(len(pack) - 1, -1, -1):
        span = pack[at]
        starts = [found.end() for found in _SENTENCE_END.finditer(text, span.begins, span.ends)]
        for begins in (*reversed(starts), span.begins):
            longer = [_stripped(text, begins, span.ends), *pack[at + 1 :]]
            if _length(longer) > most or longer == pack:
                return tail
            tail = longer
    return tail


def _length(pack: list[_Span]) -> int:
    return sum(span.ends - span.begins for span in pack) + len(_BREAK) * (len(pack) - 1)


def _chunk(pack: list[_Span], text: str) -> Chunk:
    return Chunk(_BREAK.join(text[begins:ends] for begins, ends in pack), pack[0].begins)
