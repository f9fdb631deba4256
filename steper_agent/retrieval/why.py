"""Why a passage was found: its rank in each search alone and in both together, the words it shares with the query, and its
place in the source file. Worked out when a person wants to know, never while a run searches."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from steper_agent.errors import DataError, StepERError
from steper_agent.records import Passage, Record
from steper_agent.retrieval import folder, native
from steper_agent.retrieval.dense import DenseIndex
from steper_agent.retrieval.files import rows
from steper_agent.retrieval.lexical import LexicalIndex, LexicalSettings, Terms
from steper_agent.retrieval.normal import clean, identifier
from steper_agent.retrieval.retriever import DEPTH, IndexRetriever
from steper_agent.retrieval.shelf import PASSAGES, Shelf

Search = Literal["lexical", "dense"]
LOOKED = 1000
"""Places of each search that are looked through."""
SCANNED = 64 << 20
"""Bytes of the longest file that is read through to find a passage again: a second or two."""
_WORD = re.compile(r"\w+")


class Standing(Record):
    rank: int
    """Counted from 1."""
    score: float
    """BM25 of the lexical search, cosine of the dense one."""


class Place(Record):
    path: str
    line: int
    """Counted from 1: where the passage, or the record that holds it, begins."""
    is_copy: bool
    """It is the index's own file of passages, for the source is not known, gone, changed, or longer than `SCANNED`."""


class Why(Record):
    searches: tuple[Search, ...]
    """Those that the index has."""
    lexical: Standing | None
    """None where the index has no such search, or finds the passage nowhere in its first `looked` places."""
    dense: Standing | None
    """The same of the dense search."""
    looked: int = LOOKED
    fused: int | None
    """Rank in what the index itself answers, both searches taken together; None beyond its first hundred."""
    shared: tuple[str, ...]
    """Words of the query that the passage holds, in lower case and the query's order; stop words do not count."""
    lacking: tuple[str, ...]
    """Words of the query that it does not hold."""
    words: tuple[str, ...]
    """The words of title and text, in lower case, that are one of the query's to the index: stemmed, without accents."""
    place: Place


def explain(index: IndexRetriever, query: str, passage_id: str) -> Why:
    """Why the index finds, or would find, a passage for a query. Takes a few searches, and may read a source file through.

    Raises:
        DataError: the index holds no such passage.
    """
    row = _row(index.shelf, passage_id)
    passage = index.shelf[row]
    found = (hit.passage.id for hit in index.search(query, DEPTH))
    shared, lacking, words = _words(index.manifest.lexical or LexicalSettings(), query, f"{passage.title}\n{passage.text}")
    return Why(
        searches=tuple(name for name in ("lexical", "dense") if getattr(index, name) is not None),
        lexical=_standing(index.lexical, query, row),
        dense=_standing(index.dense, query, row),
        fused=next((rank for rank, one in enumerate(found, start=1) if one == passage_id), None),
        shared=shared,
        lacking=lacking,
        words=words,
        place=_place(index, row, passage),
    )


def _row(shelf: Shelf, passage_id: str) -> int:
    at = bisect_left(range(shelf.rows), passage_id, key=lambda rank: shelf[int(shelf.by_id[rank])].id)
    if at == shelf.rows or shelf[int(shelf.by_id[at])].id != passage_id:
        raise DataError("the index holds no such passage", where=repr(passage_id), fix="ask the index it was found in")
    return int(shelf.by_id[at])


def _standing(side: LexicalIndex | DenseIndex | None, query: str, row: int) -> Standing | None:
    found = side.search(query, LOOKED) if side is not None and query.strip() else []
    return next((Standing(rank=rank, score=score) for rank, (one, score) in enumerate(found, 1) if one == row), None)


def _words(settings: LexicalSettings, query: str, text: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    terms = Terms(settings)
    asked, held = ({word.lower(): set(terms(word)) for word in _WORD.findall(one)} for one in (query, text))
    sought, there = (set[str]().union(*one.values()) for one in (asked, held))
    return (
        tuple(word for word, its in asked.items() if its & there),
        tuple(word for word, its in asked.items() if its and not its & there),
        tuple(sorted(word for word, its in held.items() if its & sought)),
    )


def _place(index: IndexRetriever, row: int, passage: Passage) -> Place:
    for source in map(Path, index.manifest.paths):
        is_text = source.is_dir() or source.suffix.lower() in folder.SUFFIXES
        try:
            found = _in_text(source, passage, index.manifest.chunk_chars) if is_text else _in_records(source, passage.id)
        except (OSError, ValueError, StepERError):
            continue  # Gone or changed since: what was read stands in the index's own copy.
        if found:
            return Place(path=str(found[0]), line=found[1], is_copy=False)
    return Place(path=str(index.folder / PASSAGES), line=row + 1, is_copy=True)


def _in_text(source: Path, passage: Passage, chunk_chars: int) -> tuple[Path, int] | None:
    root = source if source.is_dir() else source.parent
    name = Path(passage.id.rpartition("#")[0])
    path = root / name
    # An id is text of others: it names a file of this source or nothing.
    if name.is_absolute() or ".." in name.parts or not (root == source or path == source) or not _is_scanned(path):
        return None
    text, at = path.read_text(encoding="utf-8-sig"), 0
    for chunk in folder.passages(path, root, chunk_chars):
        begins, at = _span(text, chunk.text, at)
        if chunk.id == passage.id and clean(chunk.text) == passage.text:
            return path, text.count("\n", 0, begins) + 1
    return None


def _span(text: str, chunk: str, at: int) -> tuple[int, int]:
    """Where a chunk begins and ends in the text it was cut from, at or after `at`. Its lines stand there one after the
    other; only the blank between its paragraphs may be another one."""
    lines = chunk.split("\n")
    begins = text.index(lines[0], at)
    at = begins
    for line in lines:
        at = text.index(line, at) + len(line)
    return begins, at


def _in_records(source: Path, passage_id: str) -> tuple[Path, int] | None:
    if not _is_scanned(source):
        return None
    found = (row.line for row in rows(source) if passage_id in _ids(row.value, f"{source}:{row.line}"))
    line = next(found, None)
    return (source, line) if line else None


def _ids(value: dict[str, Any], where: str) -> Iterator[str]:
    if native.is_native(value):
        return (paragraph.passage.id for paragraph in native.paragraphs(value, where))
    return iter((identifier(value, where),))


def _is_scanned(path: Path) -> bool:
    """A pipe would keep its reader waiting."""
    return path.is_file() and path.stat().st_size <= SCANNED
