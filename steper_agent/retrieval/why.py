"""Why a passage was found: its rank in each search alone and in both together, the words it shares with the query, and its
place in the source file. Worked out when a person wants to know, never while a run searches."""

from __future__ import annotations

import re
from math import inf
from pathlib import Path
from typing import Literal

from steper_agent.errors import DataError, StepERError
from steper_agent.records import Passage, Record
from steper_agent.retrieval.dense import DenseIndex
from steper_agent.retrieval.fusion import DEPTH
from steper_agent.retrieval.lexical import LexicalIndex
from steper_agent.retrieval.ranking import cut
from steper_agent.retrieval.retriever import IndexRetriever
from steper_agent.retrieval.shelf import PASSAGES
from steper_agent.retrieval.sources import folder, native
from steper_agent.retrieval.sources.chunking import Chunking
from steper_agent.retrieval.sources.files import Row, rows
from steper_agent.retrieval.sources.normal import identifier
from steper_agent.retrieval.sources.streams import SUFFIXES as COMPRESSED
from steper_agent.retrieval.sources.tally import Tally
from steper_agent.retrieval.terms import LexicalSettings, Terms

Search = Literal["lexical", "dense"]
LOOKED = 1000
"""Places of each search that are looked through."""
SCANNED = 64 << 20
"""Bytes of a source that are read through to find a passage again: a second or two."""
EXPANDS = 4
"""What a compressed text grows by, about."""
_WORD = re.compile(r"\w+")


class Standing(Record):
    rank: int
    """Counted from 1."""
    score: float
    """BM25 of the lexical search, cosine of the dense one."""


class Place(Record):
    path: str
    line: int
    """Counted from 1: where the passage, or the record that holds it, begins. In Parquet, which has no lines, its row."""
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
    row = index.shelf.find(passage_id)
    if row is None:
        raise DataError("the index holds no such passage", where=repr(passage_id), fix="ask the index it was found in")
    passage = index.shelf[row]
    found = (hit.passage.id for hit in index.search(query, DEPTH))
    shared, lacking, words = _words(
        index.manifest.lexical or LexicalSettings(), query, f"{passage.title}\n{passage.text}"
    )
    return Why(
        searches=tuple(name for name in ("lexical", "dense") if getattr(index, name) is not None),
        lexical=_standing(index, index.lexical, query, row),
        dense=_standing(index, index.dense, query, row),
        fused=next((rank for rank, one in enumerate(found, start=1) if one == passage_id), None),
        shared=shared,
        lacking=lacking,
        words=words,
        place=_place(index, row, passage),
    )


def _standing(index: IndexRetriever, side: LexicalIndex | DenseIndex | None, query: str, row: int) -> Standing | None:
    if side is None or not query.strip():
        return None
    ranked = cut(side.search_many([query], LOOKED)[0], LOOKED, lambda tied: index.shelf[tied].id)
    return next((Standing(rank=rank, score=score) for rank, (one, score) in enumerate(ranked, 1) if one == row), None)


def _words(
    settings: LexicalSettings, query: str, text: str
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
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
        try:
            found = _in_text(source, passage, index.manifest.chunking) or _in_records(source, passage.id)
        except (OSError, ValueError, StepERError):
            continue  # Gone or changed since: what was read stands in the index's own copy.
        if found:
            return Place(path=str(found[0]), line=found[1], is_copy=False)
    for part in index.manifest.parts:
        if row < part.rows:
            break
        row -= part.rows
    return Place(path=str(index.folder / part.folder / PASSAGES), line=row + 1, is_copy=True)


def _in_text(source: Path, passage: Passage, chunking: Chunking) -> tuple[Path, int] | None:
    root = source if source.is_dir() else source.parent
    name = Path(passage.id.rpartition("#")[0])
    path = root / name
    # An id is text of others: it names a file of this source or nothing.
    if name.is_absolute() or ".." in name.parts or not (root == source or path == source) or not _size(path) <= SCANNED:
        return None
    if not folder.is_verbatim(path):
        return None
    found = folder.passages(path, root, chunking)
    line = next((line for one, line in found if one == passage), None)
    return (path, line) if line else None


def _in_records(source: Path, passage_id: str) -> tuple[Path, int] | None:
    room = float(SCANNED)
    for path in folder.files_of(source).records:
        room -= _size(path)
        if room < 0:
            break
        if line := next((row.line for row in rows(path, Tally(on_bad="skip")) if passage_id in _ids(row)), None):
            return path, line
    return None


def _ids(row: Row) -> tuple[str, ...]:
    try:
        if native.is_native(row.value):
            return tuple(paragraph.passage.id for paragraph in native.paragraphs(row.value, str(row)))
        return (identifier(row.value, row),)
    except DataError:
        return ()  # A bad record, left out when the index was built.


def _size(path: Path) -> float:
    """Bytes there are to read, about; endless where it is no file, for a pipe would keep its reader waiting."""
    return path.stat().st_size * (EXPANDS if path.suffix in COMPRESSED else 1) if path.is_file() else inf
